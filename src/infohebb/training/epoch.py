"""One epoch, and the curves that it adds to."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from infohebb.errors import NonFiniteLossError
from infohebb.rules.base import Diagnostics, LearningRule


@dataclass
class Tally:
    """What an epoch's batches let one see, kept on the device until the epoch ends."""

    losses: list[Tensor] = field(default_factory=list)
    correct: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    terms: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)

    def add(self, seen: Diagnostics, size: int) -> None:
        """Take in one batch."""
        self.sizes.append(size)
        self.losses.append(seen.loss)
        if seen.correct is not None:
            self.correct.append(seen.correct.sum())
        for block, terms in seen.objectives.items():
            for term, value in terms.items():
                self.terms.setdefault(block, {}).setdefault(term, []).append(value)

    def mean(self, values: list[Tensor]) -> float:
        """Mean over samples of values that are means over batches."""
        weights = torch.tensor(self.sizes, dtype=torch.float64)
        return float(torch.stack(values).double().cpu() @ weights / weights.sum())

    def accuracy(self) -> float | None:
        """Percent right while learning; None for continuous targets."""
        return 100 * float(torch.stack(self.correct).sum()) / sum(self.sizes) if self.correct else None


def learn_epoch(
    network: nn.Module,
    rule: LearningRule,
    optimizer: Optimizer,
    pairs: Iterable,
    advance: Callable[[Tally], None],
    learn: Callable[..., Diagnostics] | None = None,
) -> Tally:
    """The training step of DESIGN section 2, once for each batch.  Raises NonFiniteLossError at the epoch's end.

    `learn` stands for the rule's own, compiled.
    """
    learn = learn or rule.learn
    tally = Tally()
    learning = [p for table in optimizer.param_groups for p in table["params"]]
    for inputs, targets in pairs:
        optimizer.zero_grad(set_to_none=True)
        seen = learn(network, inputs, targets)
        rule.finish(learning)
        optimizer.step()
        tally.add(seen, len(targets))
        advance(tally)
    check_finite(tally, learning)
    return tally


def check_finite(tally: Tally, learning: Iterable[Tensor]) -> None:
    """Raise NonFiniteLossError naming the first block whose objective, or that the loss or a weight, is not finite."""
    for block, terms in tally.terms.items():
        if not bool(torch.stack(terms["objective"]).isfinite().all()):
            raise NonFiniteLossError(f"the objective of {block} is no longer finite; lower optimizer.lr.local")
    if not bool(torch.stack(tally.losses).isfinite().all()):
        raise NonFiniteLossError("the readout's loss is no longer finite; lower optimizer.lr")
    if not all(bool(parameter.isfinite().all()) for parameter in learning):
        raise NonFiniteLossError("a weight is no longer finite after the epoch's last step; lower optimizer.lr")


def empty_curves() -> dict[str, Any]:
    """Curves of no epochs."""
    return {"epoch": [], "train_loss": [], "seconds": [], "learning_rate": {}, "objective": {}}


def extend_curves(
    curves: dict[str, Any], tally: Tally, rates: dict[str, float], score: tuple[str, float] | None, began: float
) -> None:
    """Add an epoch: `score` is (name, value) of the held-out samples, `began` when it began (time.perf_counter)."""
    curves["epoch"].append(len(curves["epoch"]) + 1)
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
