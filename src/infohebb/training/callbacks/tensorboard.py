"""TensorBoard: the history as scalars, while it grows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infohebb.errors import UsageError
from infohebb.training.callbacks.base import Callback, State
from infohebb.training.callbacks.folders import as_folder, make_folder
from infohebb.training.statistics import History


class TensorBoard(Callback):
    """Writes each number of the history to a folder, which `tensorboard --logdir FOLDER` shows.

    Args:
        folder: where to write; a resumed fit goes on in it.

    Raises:
        UsageError: where the package tensorboard is not installed, and for a folder that cannot be written to.
        WrongTypeError: for a folder that is no path.
    """

    def __init__(self, folder: str | Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "TensorBoard needs the package tensorboard: pip install 'infohebb[track]', or leave the callback out"
            ) from error
        self.folder = as_folder(folder)
        self._make: Any = SummaryWriter
        self._writer: Any = None

    def on_fit_start(self, state: State) -> None:
        """Open the folder; of a resumed fit, what was written of later epochs is not shown."""
        make_folder(self.folder)
        purge = {"purge_step": state.epoch + 1} if state.epoch else {}
        self._writer = self._make(str(self.folder), **purge)

    def on_epoch_end(self, state: State) -> None:
        """Write the epoch's numbers."""
        for path, value in last_numbers(state.history, state.epoch):
            self._writer.add_scalar(path, value, state.epoch)
        self._writer.flush()

    def on_fit_end(self, state: State) -> None:
        """Close the files."""
        del state
        self._writer.close()


def last_numbers(history: History, epoch: int, prefix: str = "") -> list[tuple[str, float]]:
    """Return (path, value) of each curve that has a number for this epoch, of stacked networks one for each."""
    if "epoch" in history and history["epoch"][-1:] != [epoch]:
        return []
    found: list[tuple[str, float]] = []
    for name, values in history.items():
        if isinstance(values, Mapping):
            found += last_numbers(dict(values), epoch, f"{prefix}{name}/")
        elif name != "epoch" and values and isinstance(values[-1], list):
            found += [(f"{prefix}{name}/{network}", float(value)) for network, value in enumerate(values[-1])]
        elif name != "epoch" and values and values[-1] is not None:
            found.append((f"{prefix}{name}", float(values[-1])))
    return found
