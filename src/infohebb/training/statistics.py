"""What the steps of an epoch have shown, kept on the device until the epoch ends, and the history it adds to."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from infohebb.learner import Learner
from infohebb.learner.probing import evaluating
from infohebb.rules.base import check_batch
from infohebb.rules.contract import Step, label_loss
from infohebb.training.epoch import FOLD, Mean, Number

History = dict[str, Any]


@dataclass
class Statistics:
    """Means over an epoch so far, weighted by samples, or of a `stream` by steps.

    Of stacked networks each is a list of numbers. Asking for one waits for the device; adding a step does not.
    """

    stream: bool = False
    loss: Mean = field(default_factory=Mean)
    terms: dict[str, dict[str, Mean]] = field(default_factory=dict)
    steps: int = 0
    learned: int = 0  # steps that had something to learn
    samples: int = 0  # of a stream only those that have just come
    _correct: list[Tensor] = field(default_factory=list)
    _right: Tensor | int = 0
    _judged: int = 0

    def add(self, step: Step, *, onset: bool = True) -> None:
        """Take in one step; `onset` tells whether its samples have just come."""
        size = 1 if self.stream else step.targets.shape[0]
        self.steps += 1
        self.samples += int(onset) if self.stream else size
        if step.waiting:
            return
        self.learned += 1
        if step.loss is not None:
            self.loss.add(step.loss, size)
        correct = step.correct
        if correct is not None:
            self._correct.append(correct)
            if len(self._correct) == FOLD:
                self._fold()
        for unit, terms in step.terms.items():
            means = self.terms.get(unit)
            if means is None:
                means = self.terms[unit] = {}
            for term, value in terms.items():
                mean = means.get(term)
                if mean is None:
                    mean = means[term] = Mean()
                mean.add(value, size)

    def _fold(self) -> None:
        """Count what has been classified correctly, on the device."""
        correct = torch.cat(self._correct)
        self._right = self._right + correct.sum(0)
        self._judged += correct.shape[0]
        self._correct = []

    def accuracy(self) -> Number | None:
        """Return the percentage classified correctly while learning; None for continuous targets."""
        if self._correct:
            self._fold()
        return (100 * torch.as_tensor(self._right).double() / self._judged).tolist() if self._judged else None

    def has_loss(self) -> bool:
        """Whether any step had a label loss."""
        return bool(self.loss.sizes) or bool(self.loss.weight)

    def not_finite(self) -> tuple[str | None, int | None] | None:
        """Return (unit, or None for the label loss; number of the stacked network) of what is not finite first."""
        for unit, means in self.terms.items():
            for mean in [means["objective"]] if "objective" in means else means.values():
                if not mean.is_finite():
                    return unit, _network_of(mean)
        return (None, _network_of(self.loss)) if self.has_loss() and not self.loss.is_finite() else None


def _network_of(mean: Mean) -> int | None:
    """Return which of several stacked networks has a mean that is not finite."""
    values = torch.tensor(mean.value())
    return int(values.isfinite().logical_not().nonzero()[0]) if values.dim() else None


def empty_history() -> History:
    """Return the history of no epochs."""
    return {"epoch": [], "samples": [], "seconds": [], "learning_rate": {}, "objective": {}}


def extend_history(
    history: History,
    epoch: int,
    statistics: Statistics,
    rates: Mapping[str, float],
    scores: Mapping[str, Number],
    seconds: float,
) -> None:
    """Add an epoch: its statistics, the learning rates with which it began, and scores by the name of their curve."""
    history["epoch"].append(epoch)
    history["samples"].append(sum(history["samples"][-1:]) + statistics.samples)
    numbers: dict[str, Any] = {"train_loss": statistics.loss.value()} if statistics.has_loss() else {}
    accuracy = statistics.accuracy()
    numbers |= {} if accuracy is None else {"train_accuracy": accuracy}
    for name, value in {**numbers, **scores}.items():
        history.setdefault(name, []).append(value)
    for name, rate in rates.items():
        history["learning_rate"].setdefault(name, []).append(rate)
    for unit, means in statistics.terms.items():
        curves = history["objective"].setdefault(unit, {})
        for term, mean in means.items():
            curves.setdefault(term, []).append(mean.value())
    history["seconds"].append(seconds)


def curves_of(history: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Return each curve of a history with its path, such as "objective/layers.0/relevance"."""
    for name, values in history.items():
        if isinstance(values, Mapping):
            yield from curves_of(values, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", values


def rates_of(optimizer: Optimizer) -> dict[str, float]:
    """Return the learning rate of each parameter group, by its "role" or else as group0, group1, …"""
    rates: dict[str, float] = {}
    for place, group in enumerate(optimizer.param_groups):
        name = str(group.get("role", f"group{place}"))
        rates[name if name not in rates else f"group{place}"] = float(group["lr"])
    return rates


@torch.no_grad()
def validate(learner: Learner, batches: Iterable[tuple[Any, Tensor]]) -> dict[str, Number]:
    """Return {"loss", "accuracy" in percent} for labels or {"loss", "error": mean squared error} for numbers.

    Of stacked networks, whose logits are (m × E × outputs), lists of E numbers. In eval mode; each module's own mode is
    restored. Raises EmptyBatchError, LabelError, MismatchError.
    """
    if not learner.has_label_loss:
        return {}
    kind = learner.rule.loss
    loss, hits, count, continuous = Mean(), [], 0, False
    torch.clear_autocast_cache()  # it may hold casts of weights from before the last step
    with evaluating(learner.model):
        for inputs, targets in batches:
            logits = learner.logits(inputs)
            check_batch(logits, targets, logits.shape[-1])
            loss.add(label_loss(logits, targets, kind)[0], len(targets))
            continuous, count = targets.is_floating_point(), count + len(targets)
            each = logits if logits.dim() == 2 else logits.transpose(0, 1)
            hit = (each - targets).square().mean(-1) if continuous else each.argmax(-1) == targets
            hits.append(hit.sum(-1))
    torch.clear_autocast_cache()
    total = torch.stack(hits).double().sum(0)
    score = {"error": (total / count).tolist()} if continuous else {"accuracy": (100 * total / count).tolist()}
    return {"loss": loss.value(), **score}
