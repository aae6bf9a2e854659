"""The progress bar: epoch, batches per second, accuracy, time left; silent when not a terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from infohebb.training.epoch import Tally

Advance = Callable[[str], None]
EVERY = 20  # batches: to look at the accuracy is to wait for the device
PAUSE = 0.05  # seconds from one look of the bar to the next: a step of a stream takes less than the bar would


class Note:
    """What the bar says of an epoch: its number, and the accuracy so far."""

    def __init__(self, epoch: str, *, show: bool):
        self.epoch, self.show, self.accuracy = epoch, show, ""

    def after_batch(self, tally: Tally) -> str:
        """The note, its accuracy from at most EVERY batches ago."""
        accuracy = tally.accuracy() if self.show and tally.steps % EVERY == 1 else None
        if accuracy is not None:
            self.accuracy = f"  {fmean(accuracy if isinstance(accuracy, list) else [accuracy]):.1f} %"
        return self.epoch + self.accuracy


class _Speed(ProgressColumn):
    """Batches per second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(f"{task.speed or 0:.0f} batches/s")


@contextlib.contextmanager
def progress_bar(title: str, batches: int, done: int, *, show: bool) -> Iterator[Advance]:
    """A bar over all batches of a run; call what it yields after each batch, with a note such as "epoch 3/10"."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal)) as progress:
        task = progress.add_task(title, total=batches or None, completed=done, note="")
        pending, due, said = 0, 0.0, ""

        def advance(note: str) -> None:
            nonlocal pending, due, said
            pending, said = pending + 1, note
            if (now := time.monotonic()) >= due:
                progress.update(task, advance=pending, note=note)
                pending, due = 0, now + PAUSE

        yield advance
        progress.update(task, advance=pending, note=said)
