"""Callback and State: what `fit` calls, and what it hands over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch.optim import Optimizer

from infohebb.learner import Learner
from infohebb.rules.contract import Step
from infohebb.training.batches import Batches
from infohebb.training.statistics import History, Statistics, empty_history


@dataclass
class State:
    """Where a fit stands; callbacks may change what it points to, and set `stop`.

    `epoch`: the epoch under way or just finished, counted from 1; 0 before the first. `epochs`: how many there are to
    be. `step`: steps taken so far. `history`: curves of the epochs done. `last`: the last Step. `statistics`: what the
    steps of this epoch have shown. `train`: the training batches. `stop`: set it to end the fit after this epoch.
    `validation`: the batches that are scored after each epoch, None for none. `failed`: whether an error ended the fit.
    `order_seed`: what draws the order of samples, None if torch's global generator or a loader does.
    """

    learner: Learner
    optimizer: Optimizer
    scheduler: Any
    epochs: int
    train: Batches
    callbacks: Sequence["Callback"] = ()
    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=empty_history)
    last: Step | None = None
    statistics: Statistics = field(default_factory=Statistics)
    stop: bool = False
    failed: bool = False
    validation: Batches | None = None
    order_seed: int | None = None


class Callback:
    """Called at four points of a fit; override those that are needed.

    Events are called in the order in which callbacks were given, `on_fit_end` in the reverse of it. A callback that
    counts or remembers returns it from `state_dict`, so that a resumed fit goes on exactly.

        class Halve(infohebb.callbacks.Callback):
            def on_epoch_end(self, state):
                for group in state.optimizer.param_groups:
                    group["lr"] /= 2
    """

    outermost: ClassVar[bool] = False  # starts before all others and is called after them at the end of an epoch

    def on_fit_start(self, state: State) -> None:
        """Called once before the first epoch, or before the first one after a resume."""

    def on_step_end(self, state: State) -> None:
        """Called after each step of the optimizer."""

    def on_epoch_end(self, state: State) -> None:
        """Called when the epoch has its entry in `state.history` and the scheduler has stepped."""

    def on_fit_end(self, state: State) -> None:
        """Called once at the end, after an error too: `state.failed` tells."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit needs: numbers, strings, lists, dictionaries and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        del state


class AtEpochEnd(Callback):
    """Calls a plain function of the state at the end of each epoch."""

    def __init__(self, function: Callable[[State], Any]):
        self.function = function

    def on_epoch_end(self, state: State) -> None:
        """Call the function."""
        self.function(state)
