"""Diagnosis on demand: each layer's angle and norm ratio to the gradient of a reference, while a rule learns."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from infohebb.errors import MismatchError, WrongTypeError, is_whole
from infohebb.functional import alignment
from infohebb.networks import Layered
from infohebb.rules import contract
from infohebb.rules.base import LearningRule
from infohebb.training.evaluation import home_of
from infohebb.training.seeding import seeded
from infohebb.training.sources import DataSetSource, LoaderSource, Pair, StreamSource

WATCHED = 2000  # samples
SEED = 0  # of what the two rules draw, dropout above all: the same for both, at each epoch
MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"angle": alignment.angle, "norm_ratio": alignment.norm_ratio}


@dataclass(frozen=True)
class Diagnose:
    """What to hold a rule's gradients against, such as `Backprop()`: before learning, and after every N-th epoch.

    Raises WrongTypeError, MismatchError.
    """

    reference: LearningRule | contract.LearningRule
    every: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.reference, (LearningRule, contract.LearningRule)):
            raise MismatchError(f"reference is {self.reference!r}; give a rule that is made, such as Backprop()")
        if not is_whole(self.every) or self.every < 1:
            raise WrongTypeError(f"every = {self.every!r}: give a whole number of epochs, at least 1")


@dataclass(frozen=True)
class Alignment:
    """One training's diagnosis, always on the same batch; what it measures on are copies, so that nothing is moved."""

    network: Layered
    rule: LearningRule
    reference: LearningRule
    batch: Pair
    every: int

    def after(self, epoch: int, curves: dict[str, Any]) -> None:
        """Add what is measured after `epoch`, 0 being before learning, if it is one of those asked for."""
        if epoch % self.every == 0:
            extend_lines(curves, "alignment", epoch, self.measure())

    def measure(self) -> dict[str, dict[str, float | None]]:
        """By measure and layer; None where a layer has no gradient, or one without direction."""
        own, other = (gradients(self.network, rule, self.batch) for rule in (self.rule, self.reference))
        return {name: {key: _compare(of, own[key], other[key]) for key in own} for name, of in MEASURES.items()}


def prepare_alignment(asked: Diagnose, network: nn.Module, rule: LearningRule, batch: Pair) -> Alignment:
    """The diagnosis of a training about to begin.

    Raises MismatchError for a network without layers of blocks, or that the reference cannot train.
    """
    if not isinstance(network, Layered):
        raise MismatchError(f"diagnose compares layers of a Layered network, not of a {type(network).__name__}")
    if not isinstance(asked.reference, LearningRule):
        name = type(asked.reference).__name__
        raise MismatchError(f"diagnose: {name} trains plain modules, not a {type(network).__name__}; give another rule")
    if network.networks is not None:
        raise MismatchError("diagnose measures one network, not several side by side; leave it out")
    reference, (device, dtype) = copy.deepcopy(asked.reference), home_of(network)
    with seeded(SEED, device):
        reference.attach(network)
    return Alignment(network, rule, reference.to(device, dtype), batch, asked.every)


def gradients(network: Layered, rule: LearningRule, batch: Pair) -> dict[str, Tensor | None]:
    """What `rule` would leave in `.grad` of each layer's weight, before `finish`; learned by copies of both.

    Two rules see the same dropout as long as the network alone draws.
    """
    network, rule = copy.deepcopy((network, rule))
    with seeded(SEED, home_of(network)[0]):
        network.zero_grad(set_to_none=True)
        rule.learn(network, *batch)
    return {name: weight.grad for name, weight in layer_weights(network).items()}


def layer_weights(network: Layered) -> dict[str, Tensor]:
    """The weight of each layer, by the name that curves call it: block1, block2, …, readout."""
    blocks = enumerate(network.named_blocks(), 1)
    return {**{f"block{position}": block.weight for position, (_, block) in blocks}, "readout": network.readout.weight}


def watched(
    rule: LearningRule, source: DataSetSource | StreamSource | LoaderSource, most: int = WATCHED
) -> Pair | None:
    """The samples that a rule is asked about from epoch to epoch; None for one that has nothing to say, or a loader."""
    silent = type(rule).watch is LearningRule.watch
    return None if silent or isinstance(source, LoaderSource) else source.sample(most)


def extend_lines(
    curves: dict[str, Any], what: str, epoch: int, measured: Mapping[str, Mapping[str, float | None]]
) -> None:
    """Add an epoch to the curves of that name, which have epochs of their own: by measure and layer."""
    lines = curves.setdefault(what, {"epoch": [], **{name: {} for name in measured}})
    lines["epoch"].append(epoch)
    for name, layers in measured.items():
        for layer, value in layers.items():
            lines[name].setdefault(layer, []).append(value)


def _compare(measure: Callable[[Tensor, Tensor], Tensor], own: Tensor | None, other: Tensor | None) -> float | None:
    if own is None or other is None:
        return None
    value = float(measure(own, other))
    return value if math.isfinite(value) else None
