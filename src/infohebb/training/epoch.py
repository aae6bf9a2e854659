"""One epoch, and the curves that it adds to."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from infohebb.errors import MismatchError, NonFiniteLossError
from infohebb.learner.updates import parameters_of
from infohebb.rules.base import Diagnostics, LearningRule

FOLD = 4096  # steps after which what was seen is summed up, so that an epoch may have millions
Step = Callable[..., Diagnostics]  # of a network, inputs, targets, and in a stream onset
Number = float | list[float]  # of one network, or of each of several side by side


class Mean:
    """A mean, weighed by samples, of numbers () or (E,) that come step by step and stay on the device for a while."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.sizes: list[int] = []
        self.total = self.weight = torch.zeros((), dtype=torch.float64)

    def add(self, value: Tensor, size: int) -> None:
        """Take in the mean of a batch of that size."""
        self.values.append(value)
        self.sizes.append(size)
        if len(self.sizes) == FOLD:
            self._fold()

    def _fold(self) -> None:
        weights = torch.tensor(self.sizes, dtype=torch.float64)
        self.total = self.total + weights @ torch.stack(self.values).double().cpu()
        self.weight = self.weight + weights.sum()
        self.values, self.sizes = [], []

    def value(self) -> Number:
        """The mean so far; NaN of nothing."""
        if self.sizes:
            self._fold()
        return (self.total / self.weight).tolist()

    def is_finite(self) -> bool:
        """Whether all that came was: a sum keeps what is not."""
        return bool(torch.tensor(self.value()).isfinite().all())


@dataclass
class Tally:
    """What an epoch's steps let one see, kept on the device until it is asked for."""

    losses: Mean = field(default_factory=Mean)
    terms: dict[str, dict[str, Mean]] = field(default_factory=dict)
    steps: int = 0
    learned: int = 0  # steps that did not wait
    samples: int = 0
    _correct: list[Tensor] = field(default_factory=list)
    _right: int | Tensor = 0
    _judged: int = 0

    def add(self, seen: Diagnostics, size: int) -> None:
        """Take in one step, unless there was nothing to learn yet."""
        self.steps += 1
        if seen.waiting:
            return
        self.learned += 1
        self.losses.add(seen.loss, size)
        if seen.correct is not None:
            self._correct.append(seen.correct)
            if len(self._correct) == FOLD:
                self._fold()
        for block, terms in seen.objectives.items():
            lines = self.terms.setdefault(block, {})
            for term, value in terms.items():
                if term not in lines:
                    lines[term] = Mean()
                lines[term].add(value, size)

    def _fold(self) -> None:
        correct = torch.cat(self._correct, -1)
        self._right = self._right + correct.sum(-1)
        self._judged += correct.shape[-1]
        self._correct = []

    def mean(self, line: Mean) -> Number:
        """Mean over samples of values that are means over batches."""
        return line.value()

    def accuracy(self) -> Number | None:
        """Percent right while learning; None for continuous targets."""
        if self._correct:
            self._fold()
        return (100 * torch.as_tensor(self._right).double() / self._judged).tolist() if self._judged else None


def plain_step(rule: LearningRule, optimizer: Optimizer, learn: Step | None = None) -> Step:
    """The training step of DESIGN section 2; `learn` stands for the rule's own, compiled."""
    learn, learning = learn or rule.learn, parameters_of(optimizer)

    def step(network: nn.Module, inputs: Tensor, targets: Tensor, **presented: bool) -> Diagnostics:
        for parameter in learning:  # as zero_grad does, in a tenth of its time
            parameter.grad = None
        seen = learn(network, inputs, targets, **presented)
        rule.finish(learning)
        optimizer.step()
        return seen

    return step


def learn_epoch(
    network: nn.Module,
    rule: LearningRule,
    optimizer: Optimizer,
    steps: Iterable,
    advance: Callable[[Tally], None],
    step: Step | None = None,
    *,
    may_wait: bool = False,
) -> Tally:
    """A training step for each batch (inputs, targets) or Presented of a stream: the plain one, or `step`.

    Raises, at the epoch's end, NonFiniteLossError, and MismatchError when the rule waited throughout, unless it
    `may_wait`.
    """
    step, tally = step or plain_step(rule, optimizer), Tally()
    for inputs, targets, *held in steps:
        seen = step(network, inputs, targets, onset=held[0]) if held else step(network, inputs, targets)
        tally.samples += int(held[0]) if held else len(targets)
        tally.add(seen, 1 if held else len(targets))
        advance(tally)
    if tally.learned == 0:
        if may_wait:
            return tally
        raise MismatchError(
            f"{type(rule).__name__} still waited at the end of an epoch of {tally.steps} samples; give more samples, "
            "or a larger epoch_samples"
        )
    check_finite(tally, parameters_of(optimizer))
    return tally


def check_finite(tally: Tally, learning: Iterable[Tensor]) -> None:
    """Raise NonFiniteLossError naming the first block whose objective, or that the loss or a weight, is not finite."""
    for block, terms in tally.terms.items():
        if not terms["objective"].is_finite():
            of = _whose(terms["objective"])
            raise NonFiniteLossError(f"the objective of {block}{of} is no longer finite; lower optimizer.lr.local")
    if not tally.losses.is_finite():
        raise NonFiniteLossError(f"the readout's loss{_whose(tally.losses)} is no longer finite; lower optimizer.lr")
    if not all(bool(parameter.isfinite().all()) for parameter in learning):
        raise NonFiniteLossError("a weight is no longer finite after the epoch's last step; lower optimizer.lr")


def _whose(line: Mean) -> str:
    """Of several networks side by side, which one's number is not finite."""
    values = torch.tensor(line.value())
    return f" of network {int(values.isfinite().logical_not().nonzero()[0])}" if values.dim() else ""


def split_curves(curves: dict[str, Any], place: int) -> dict[str, Any]:
    """The curves of one of several networks that were trained side by side."""
    return {name: _of(line, place) for name, line in curves.items()}


def _of(line: Any, place: int) -> Any:
    if isinstance(line, dict):
        return split_curves(line, place)
    return [value[place] if isinstance(value, list) else value for value in line]


def empty_curves() -> dict[str, Any]:
    """Curves of no epochs."""
    return {"epoch": [], "samples": [], "train_loss": [], "seconds": [], "learning_rate": {}, "objective": {}}


def extend_curves(
    curves: dict[str, Any], tally: Tally, rates: dict[str, float], score: tuple[str, Number] | None, began: float
) -> None:
    """Add an epoch: `score` is (name, value) of the held-out samples, `began` when it began (time.perf_counter)."""
    curves["epoch"].append(len(curves["epoch"]) + 1)
    curves["samples"].append(sum(curves["samples"][-1:]) + tally.samples)
    curves["train_loss"].append(tally.mean(tally.losses))
    accuracy = tally.accuracy()
    if accuracy is not None:
        curves.setdefault("train_accuracy", []).append(accuracy)
    if score is not None:
        curves.setdefault(score[0], []).append(score[1])
    for kind, rate in rates.items():
        curves["learning_rate"].setdefault(kind, []).append(rate)
    for position, terms in enumerate(tally.terms.values(), 1):
        lines = curves["objective"].setdefault(f"block{position}", {})
        for term, values in terms.items():
            lines.setdefault(term, []).append(tally.mean(values))
    curves["seconds"].append(time.perf_counter() - began)
