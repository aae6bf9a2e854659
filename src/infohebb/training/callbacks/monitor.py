"""Monitor: numbers about the network, epoch by epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from infohebb.learner import Learner
from infohebb.training.batches import SAMPLE, Batch
from infohebb.training.callbacks.alignment import check_every, chosen_batch
from infohebb.training.callbacks.base import Callback, State


class Monitor(Callback):
    """Adds to the history what a rule's `monitor` or a function of your own says of the network.

    Before the first epoch and after every `every`-th one. `history["monitor"]` has its own "epoch"; the rule's numbers
    are there by measure and layer, those of the function by their names.

    Args:
        function: returns a dictionary of numbers for a learner; it must not change it. Default: the rule's `monitor`.
        batch: (inputs, targets) for the rule. Default: up to 2000 samples of the training arrays; a loader has none.
        every: number of epochs between measurements. Default: 1.

    Raises:
        MismatchError: for a loader without `batch`. WrongTypeError: for a wrong `every`.

        Monitor(lambda learner: {"norm": learner.model.fc.weight.norm().item()})
    """

    def __init__(
        self, function: Callable[[Learner], Mapping[str, float]] | None = None, batch: Any = None, every: int = 1
    ):
        check_every(every)
        self.function, self.batch, self.every = function, batch, every
        self._batch: Batch | None = None

    def on_fit_start(self, state: State) -> None:
        """Set a batch apart for the rule, and ask before learning."""
        if self.function is None:
            self._batch = chosen_batch(self.batch, state, SAMPLE)
        if state.epoch == 0:
            self._ask(state)

    def on_epoch_end(self, state: State) -> None:
        """Ask, if it is time."""
        if state.epoch % self.every == 0:
            self._ask(state)

    def _ask(self, state: State) -> None:
        with torch.no_grad():
            if self.function is not None:
                found: Mapping[str, Any] = self.function(state.learner)
            else:
                assert self._batch is not None
                found = state.learner.rule.monitor(state.learner.model, *self._batch)
        curves = state.history.setdefault("monitor", {"epoch": []})
        if curves["epoch"][-1:] != [state.epoch]:
            curves["epoch"].append(state.epoch)
        _extend(curves, found)


def _extend(curves: dict[str, Any], found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if isinstance(value, Mapping):
            _extend(curves.setdefault(name, {}), value)
        else:
            curves.setdefault(name, []).append(float(value))
