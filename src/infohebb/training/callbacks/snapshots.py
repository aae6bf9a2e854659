"""Snapshots: weights and activities at some epochs."""

from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from infohebb.files import write_whole
from infohebb.training.batches import Home, check_pair
from infohebb.training.callbacks.alignment import check_every
from infohebb.training.callbacks.base import Callback, State
from infohebb.training.callbacks.folders import as_folder, make_folder
from infohebb.training.evaluation import home_of
from infohebb.training.seeding import seeded


class Snapshots(Callback):
    """Keeps weights, and the units' activities for a batch, before the first epoch and after every `every`-th one.

    In memory as `snapshots.taken[epoch]`, a dictionary from "weights/NAME" and "activities/UNIT" to tensors on the CPU,
    or in `folder` as files epoch0003.safetensors with the same names; `safetensors.torch.load_file` reads one.

    Args:
        every: number of epochs between snapshots. Default: 1.
        weights: whether to keep the model's parameters. Default: True.
        activities: inputs of a batch whose activities to keep. Default: none.
        folder: where to write files. Default: in memory.

    Raises:
        WrongTypeError: for a wrong `every` or `folder`. UsageError: for a folder that cannot be written to.
        NoSpaceError: for a full disk.
    """

    def __init__(self, every: int = 1, *, weights: bool = True, activities: Any = None, folder: Any = None):
        check_every(every)
        self.every, self.weights, self.activities = every, weights, activities
        self.folder = None if folder is None else as_folder(folder)
        self.taken: dict[int, dict[str, Tensor]] = {}

    def on_fit_start(self, state: State) -> None:
        """Take one before learning."""
        if self.folder is not None:
            make_folder(self.folder)
        if state.epoch == 0:
            self.taken = {}
            self._take(state)

    def on_epoch_end(self, state: State) -> None:
        """Take one, if it is time."""
        if state.epoch % self.every == 0:
            self._take(state)

    def _take(self, state: State) -> None:
        found: dict[str, Tensor] = {}
        if self.weights:
            found |= {f"weights/{name}": each for name, each in state.learner.model.named_parameters()}
        if self.activities is not None:
            device, dtype = home_of(state.learner.model)
            inputs, _ = check_pair((self.activities, torch.zeros(1)), "activities are")
            inputs, _ = Home(device, dtype).place((inputs, torch.zeros(1)))
            with seeded(0, device):
                activities = state.learner.activities(inputs)
            found |= {f"activities/{name}": each for name, each in activities.items()}
        kept = {name: each.detach().cpu().contiguous().clone() for name, each in found.items()}
        if self.folder is None:
            self.taken[state.epoch] = kept
        else:
            path = self.folder / f"epoch{state.epoch:04d}.safetensors"
            write_whole(path, lambda part: part.write_bytes(save(kept)))
