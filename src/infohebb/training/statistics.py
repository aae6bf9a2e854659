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
from infohebb.training.epoch import Mean

History = dict[str, Any]


@dataclass
class Statistics:
    """Means over the samples of an epoch so far. Asking for one waits for the device; adding a step does not."""

    loss: Mean = field(default_factory=Mean)
    terms: dict[str, dict[str, Mean]] = field(default_factory=dict)
    steps: int = 0
    learned: int = 0  # steps that had something to learn
    samples: int = 0
    _correct: Tensor | None = None
    _judged: int = 0

    def add(self, step: Step) -> None:
        """Take in one step."""
        size = len(step.targets)
        self.steps, self.samples = self.steps + 1, self.samples + size
        if step.waiting:
            return
        self.learned += 1
        if step.loss is not None:
            self.loss.add(step.loss, size)
        correct = step.correct
        if correct is not None:
            self._correct = correct.sum() if self._correct is None else self._correct + correct.sum()
            self._judged += size
        for unit, terms in step.terms.items():
            means = self.terms.setdefault(unit, {})
            for term, value in terms.items():
                means.setdefault(term, Mean()).add(value, size)

    def accuracy(self) -> float | None:
        """Return the percentage classified correctly while learning; None for continuous targets."""
        return None if self._correct is None else 100 * int(self._correct) / self._judged

    def has_loss(self) -> bool:
        """Whether any step had a label loss."""
        return bool(self.loss.sizes) or bool(self.loss.weight)

    def not_finite(self) -> str | None:
        """Return the name of the first objective or loss that is not finite, "" for the label loss, or None."""
        for unit, means in self.terms.items():
            watched = [means["objective"]] if "objective" in means else means.values()
            if not all(mean.is_finite() for mean in watched):
                return unit
        return "" if self.has_loss() and not self.loss.is_finite() else None


def empty_history() -> History:
    """Return the history of no epochs."""
    return {"epoch": [], "samples": [], "seconds": [], "learning_rate": {}, "objective": {}}


def extend_history(
    history: History,
    epoch: int,
    statistics: Statistics,
    rates: Mapping[str, float],
    scores: Mapping[str, float],
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
def validate(learner: Learner, batches: Iterable[tuple[Any, Tensor]]) -> dict[str, float]:
    """Return {"loss", "accuracy" in percent} for labels or {"loss", "error": mean squared error} for numbers.

    In eval mode; each module's own mode is restored. Raises EmptyBatchError, LabelError, MismatchError.
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
            continuous, count = targets.is_floating_point(), count + len(targets)
            hits.append((logits - targets).square().mean(-1) if continuous else logits.argmax(-1) == targets)
            hits[-1] = hits[-1].sum()
            loss.add(label_loss(logits, targets, kind)[0], len(targets))
    torch.clear_autocast_cache()
    total = float(torch.stack(hits).double().sum())
    score = {"error": total / count} if continuous else {"accuracy": 100 * total / count}
    return {"loss": loss.value(), **score}  # pyright: ignore[reportReturnType]
