"""EarlyStopping: end a fit that no longer gets better."""

import math
from typing import Any, Literal

from torch import Tensor, nn

from infohebb.errors import MismatchError, WrongTypeError, is_number, is_whole, unknown_name
from infohebb.training.callbacks.base import AtEpochEnd, Callback, State
from infohebb.training.statistics import curves_of
from infohebb.training.wording import short


class EarlyStopping(Callback):
    """Stops a fit when a curve of its history has not improved for `patience` epochs.

    Args:
        patience: number of epochs without improvement after which to stop. Default: 5.
        monitor: the curve, by its path in the history, such as "validation_accuracy" or "objective/fc1/objective".
            Default: "validation_loss".
        mode: whether smaller ("min") or larger ("max") is better. Default: "max" for an accuracy, else "min".
        smallest_change: how much better it must be to count. Default: 0.
        restore_best: whether the model and the rule get the weights of the best epoch back at the end. Default: True.

    Raises:
        WrongTypeError: for a value that is not allowed. UnknownNameError: for a curve that the history does not have.
        MismatchError: for a curve of validation in a fit without it, and for one whose value is no number.
    """

    def __init__(
        self,
        patience: int = 5,
        monitor: str = "validation_loss",
        *,
        mode: Literal["min", "max"] | None = None,
        smallest_change: float = 0.0,
        restore_best: bool = True,
    ):
        if not is_whole(patience) or patience < 1:
            raise WrongTypeError(f"patience={patience!r}: give a whole number of epochs, at least 1")
        if not isinstance(monitor, str) or not monitor:
            raise WrongTypeError(f"monitor={short(monitor)}: give the name of a curve, such as 'validation_loss'")
        if mode not in (None, "min", "max"):
            raise WrongTypeError(f"mode={mode!r}: give 'min', 'max' or None")
        if not is_number(smallest_change) or smallest_change < 0:
            raise WrongTypeError(f"smallest_change={smallest_change!r}: give a number of at least 0")
        self.patience, self.monitor, self.smallest_change = patience, monitor, smallest_change
        self.mode = mode or ("max" if "accuracy" in monitor else "min")
        self.restore_best = restore_best
        self._forget()

    def _forget(self) -> None:
        self.best, self.best_epoch, self.waited = math.nan, 0, 0
        self._weights: dict[str, Tensor] = {}

    def on_fit_start(self, state: State) -> None:
        """Begin anew, unless the fit is resumed; one that had stopped stays so."""
        if state.validation is None and self.monitor.startswith("validation_") and not _may_come(state, self.monitor):
            raise MismatchError(
                f"monitor={short(self.monitor)}: fit scores no validation data; give validation=(x, y), or monitor "
                "another curve, such as 'train_loss'"
            )
        if state.epoch == 0:
            self._forget()
        elif self.waited >= self.patience:
            state.stop = True

    def on_epoch_end(self, state: State) -> None:
        """Compare the last value of the curve with the best one."""
        curves = dict(curves_of(state.history))
        if self.monitor not in curves:
            raise unknown_name("curve of the history", self.monitor, curves)
        last = curves[self.monitor][-1] if curves[self.monitor] else None
        try:
            value = float(last)  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError, RuntimeError) as error:
            raise MismatchError(
                f"monitor={short(self.monitor)}: the curve has {short(last, 60)} for epoch {state.epoch}, which is no "
                "number to compare; monitor another curve"
            ) from error
        if self._is_better(value):
            self.best, self.best_epoch, self.waited = value, state.epoch, 0
            if self.restore_best:
                self._weights = {name: each.clone() for name, each in _tensors(state.learner).items()}
        else:
            self.waited += 1
            state.stop = state.stop or self.waited >= self.patience

    def _is_better(self, value: float) -> bool:
        if math.isnan(self.best):
            return not math.isnan(value)
        change = value - self.best if self.mode == "max" else self.best - value
        return change > self.smallest_change

    def on_fit_end(self, state: State) -> None:
        """Put the weights of the best epoch back, unless an error ended the fit."""
        if self._weights and not state.failed and self.best_epoch != state.epoch:
            state.learner.load_state_dict(self._weights, strict=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, its epoch and weights, and how long there was none better."""
        counts = {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        return {**counts, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self._weights = dict(state["weights"])


def _may_come(state: State, curve: str) -> bool:
    """Whether a curve is there already, or a callback of the user's own may add it."""
    own = (
        isinstance(each, AtEpochEnd) or not type(each).__module__.startswith("infohebb.") for each in state.callbacks
    )
    return curve in state.history or any(own)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
