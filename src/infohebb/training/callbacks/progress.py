"""Progress: a bar on the terminal."""

import contextlib
from collections.abc import Callable
from statistics import fmean

from infohebb.training.callbacks.base import Callback, State
from infohebb.training.progress import EVERY, progress_bar


class Progress(Callback):
    """Shows a bar with the epoch, the accuracy so far and the time left; nothing where standard error is no terminal.

    Every 20 steps the accuracy is read, which waits for the device. `fit` adds it by itself unless progress=False.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._advance: Callable[[str], None] | None = None
        self._accuracy, self._shown = "", False

    def on_fit_start(self, state: State) -> None:
        """Open the bar."""
        per_epoch, title = state.train.count() or 0, type(state.learner.rule).__name__
        bar = progress_bar(title, per_epoch * state.epochs, per_epoch * state.epoch, show=True)
        self._advance = self._stack.enter_context(bar)
        self._shown = is_shown()

    def on_step_end(self, state: State) -> None:
        """Advance by one step."""
        if not self._shown or self._advance is None:
            return
        if state.statistics.steps % EVERY == 1:
            accuracy = state.statistics.accuracy()
            several = accuracy if isinstance(accuracy, list) else [accuracy or 0.0]
            self._accuracy = "" if accuracy is None else f"  {fmean(several):.1f} %"
        self._advance(f"epoch {state.epoch}/{state.epochs}{self._accuracy}")

    def on_fit_end(self, state: State) -> None:
        """Close the bar."""
        del state
        self._advance = None
        self._stack.close()


def is_shown() -> bool:
    """Whether a bar would be seen: standard error is a terminal."""
    from rich.console import Console

    return Console(stderr=True).is_terminal
