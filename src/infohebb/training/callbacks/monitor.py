"""Monitor: numbers about the network, epoch by epoch."""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infohebb.errors import MismatchError, WrongTypeError
from infohebb.learner import Learner
from infohebb.training.batches import SAMPLE, Batch
from infohebb.training.callbacks.alignment import check_every, chosen_batch
from infohebb.training.callbacks.base import Callback, State
from infohebb.training.wording import short


class Monitor(Callback):
    """Adds to the history what a rule's `monitor` or a function of your own says of the network.

    Before the first epoch and after every `every`-th one. `history["monitor"]` has its own "epoch"; the rule's numbers
    are there by measure and layer, those of the function by their names.

    Args:
        function: returns a dictionary of numbers for a learner; it must not change it. Default: the rule's `monitor`.
        batch: (inputs, targets) for the rule. Default: up to 2000 samples of the training arrays; a loader has none.
        every: number of epochs between measurements. Default: 1.

    Raises:
        MismatchError: for a loader without `batch`, for a rule that has nothing to monitor, and for a name that two
        Monitors give. WrongTypeError: for a wrong `every`, a function that is none, and one that returns anything but
        numbers by name.

        Monitor(lambda learner: {"norm": learner.model.fc.weight.norm().item()})
    """

    def __init__(
        self, function: Callable[[Learner], Mapping[str, float]] | None = None, batch: Any = None, every: int = 1
    ):
        check_every(every)
        if function is not None and not callable(function):
            raise WrongTypeError(f"function={short(function)}: give a function of a learner that returns a dictionary")
        self.function, self.batch, self.every = function, batch, every
        self._batch: Batch | None = None
        self._names: set[str] = set()

    def on_fit_start(self, state: State) -> None:
        """Set a batch apart for the rule, and ask before learning."""
        self._names = set()
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
                found: Any = self.function(state.learner)
            else:
                assert self._batch is not None
                found = state.learner.rule.monitor(state.learner.model, *self._batch)
        who = f"Monitor: the monitor of {type(state.learner.rule).__name__}"
        who = who if self.function is None else "Monitor: function"
        check_numbers(who, found)
        if self.function is None and not found:
            raise MismatchError(f"{who} has no numbers for this network; give Monitor a function, or leave it out")
        self._names |= set(found)
        for other in state.callbacks:
            both = self._names & other._names if isinstance(other, Monitor) and other is not self else ()
            if both:
                raise MismatchError(f"{who} returns {short(min(both))}, as another Monitor does; give it another name")
        curves = state.history.setdefault("monitor", {"epoch": []})
        if curves["epoch"][-1:] != [state.epoch]:
            curves["epoch"].append(state.epoch)
        _extend(curves, found)


def check_numbers(who: str, found: Any) -> None:
    """Raise WrongTypeError unless `found` is a dictionary of numbers, or of such dictionaries, by names."""
    if not isinstance(found, Mapping):
        raise WrongTypeError(f"{who} returns {short(found)}; have it return a dictionary of numbers by name")
    for name, value in found.items():
        if not isinstance(name, str) or name == "epoch":
            raise WrongTypeError(f"{who} returns the key {short(name)}; take another name, a string but 'epoch'")
        if isinstance(value, Mapping):
            check_numbers(who, value)
        elif not _is_one_number(value):
            raise WrongTypeError(f"{who} returns {short(value, 80)} for {short(name, 80)}; have it return one number")


def _is_one_number(value: Any) -> bool:
    return isinstance(value, Real) or (isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) == 1)


def _extend(curves: dict[str, Any], found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if isinstance(value, Mapping):
            _extend(curves.setdefault(name, {}), value)
        else:
            curves.setdefault(name, []).append(float(value))
