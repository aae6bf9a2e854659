"""Alignment: how a rule's gradients lie to those of a reference rule, while a network learns."""

import copy
import math
from typing import Any

import torch
from torch import Tensor

from infohebb.errors import MismatchError, WrongTypeError, is_whole
from infohebb.functional import alignment
from infohebb.learner import Learner
from infohebb.rules.contract import LearningRule
from infohebb.training.batches import Batch, Home, check_pair
from infohebb.training.callbacks.base import Callback, State
from infohebb.training.diagnose import extend_lines
from infohebb.training.evaluation import home_of
from infohebb.training.seeding import seeded

SEED = 0  # of what both rules draw, dropout above all: the same for both and in each epoch
MEASURES = {"angle": alignment.angle, "norm_ratio": alignment.norm_ratio}


class Alignment(Callback):
    """Adds to the history how each weight's gradient lies to that of a reference rule, such as Backprop().

    Both are measured on copies and on the same batch, before the first epoch and after every `every`-th one; no bit of
    the training changes. `history["alignment"]` has its own "epoch", and by the weight's name "angle" (degrees) and
    "norm_ratio" (the rule's norm over the reference's); None where a gradient is missing or has no direction.

    Args:
        reference: an instance of a rule.
        batch: (inputs, targets) to measure on. Default: one batch of the training arrays; a loader has none.
        every: number of epochs between measurements. Default: 1.

    Raises:
        MismatchError: for a reference that is no rule or does not fit the model, for a loader without `batch`, and for
            two of them in one fit, whose numbers could not be told apart.
        WrongTypeError: for a wrong `every`.
    """

    def __init__(self, reference: LearningRule, batch: Any = None, every: int = 1):
        if not isinstance(reference, LearningRule):
            raise MismatchError(f"reference={reference!r}: give an instance of a rule, such as Backprop()")
        check_every(every)
        self.reference, self.batch, self.every = reference, batch, every
        self._batch: Batch | None = None

    def on_fit_start(self, state: State) -> None:
        """Set the batch apart, and measure before learning."""
        if sum(isinstance(callback, Alignment) for callback in state.callbacks) > 1:
            raise MismatchError("two Alignments in one fit: both would write history['alignment']; give one of them")
        self._batch = chosen_batch(self.batch, state)
        with_reference(state.learner, self.reference)  # whether it fits
        if state.epoch == 0:
            self._measure(state)

    def on_epoch_end(self, state: State) -> None:
        """Measure, if it is time."""
        if state.epoch % self.every == 0:
            self._measure(state)

    def _measure(self, state: State) -> None:
        assert self._batch is not None
        own = gradients(copy.deepcopy(state.learner), self._batch)
        other = gradients(with_reference(state.learner, self.reference), self._batch)
        measured = {name: {key: _compare(of, own[key], other[key]) for key in own} for name, of in MEASURES.items()}
        extend_lines(state.history, "alignment", state.epoch, measured)


def with_reference(learner: Learner, reference: LearningRule) -> Learner:
    """Return a copy of a learner by the reference rule, which draws the same tensors of its own each time."""
    with seeded(SEED, home_of(learner.model)[0]):
        return learner.with_rule(reference)


def gradients(learner: Learner, batch: Batch) -> dict[str, Tensor | None]:
    """Return the gradient of each weight of a learner's model that is trainable; it is a copy that nobody else uses."""
    learner.zero_grad(set_to_none=True)
    learner.bind(
        torch.optim.SGD(learner.model.parameters(), lr=0.0)
    )  # never stepped: gradients as they are before that
    with seeded(SEED, home_of(learner.model)[0]):
        learner.backward(*batch)
    return {name: p.grad for name, p in learner.model.named_parameters() if p.dim() > 1 and p.requires_grad}


def chosen_batch(given: Any, state: State, size: int | None = None) -> Batch:
    """Return the batch given, on the model's device, or else one of the training arrays.  Raises MismatchError."""
    if given is None:
        return state.train.sample(size)
    return Home(*home_of(state.learner.model)).place(check_pair(given, "batch is"))


def check_every(every: Any) -> None:
    """Raise WrongTypeError unless `every` is a number of epochs."""
    if not is_whole(every) or every < 1:
        raise WrongTypeError(f"every={every!r}: give a whole number of epochs, at least 1")


def _compare(measure: Any, own: Tensor | None, other: Tensor | None) -> float | None:
    if own is None or other is None:
        return None
    value = float(measure(own.float(), other.float()) if own.dtype != other.dtype else measure(own, other))
    return value if math.isfinite(value) else None
