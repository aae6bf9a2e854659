"""Unit: a part of a network whose output is an activity with a local objective."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

Shape = tuple[int, ...]  # of one sample, without the batch axis


class UnitMark(NamedTuple):
    """Where a network of ours has one of its units: names of submodules, and shapes of one sample.

    `activity` is the submodule whose input and output bound the unit: it holds all of the unit's parameters, and its
    output is what a local rule sees; of `stacked` networks it is (m × networks × n). `output` is the submodule whose
    output the next unit receives: the activity after pooling, divisive norm and dropout, which direct feedback reaches.
    `norm` is the divisive norm in between.
    """

    name: str
    activity: str
    output: str
    activity_shape: Shape
    output_shape: Shape
    norm: str | None = None
    stacked: int | None = None


@runtime_checkable
class MarksUnits(Protocol):
    """A network that knows its own units and its head, so that a Learner needs no `units` and no `example`."""

    def marked_units(self) -> tuple[UnitMark, ...]:
        """Return the units, from the input to the head."""
        ...

    def marked_head(self) -> str:
        """Return the name of the submodule whose output is the network's."""
        ...


def same(shared: Tensor) -> Tensor:
    """Return what it is given: all samples of a batch are in this process."""
    return shared


@dataclass
class Unit:
    """What a rule knows of one unit.

    `place` counts units from 0. `shape` is that of one sample's activity with channels (or features) on the first axis,
    `output_shape` that of the unit's output as it is; both are None until a batch or an `example` has shown them.
    `stacked` is the number of networks in one, whose activities are then (m × networks × n); None for a single network.
    `divisive_norm` is the one that follows the unit, or None: rules that group take groups, power and delta from it.
    `linear` is the unit's only Linear, for rules that look at its synapses; None for all others.
    `gather` returns the rows of all processes for the rows (m × ...) of this one.
    """

    name: str
    place: int
    shape: Shape | None = None
    output_shape: Shape | None = None
    divisive_norm: nn.Module | None = None
    stacked: int | None = None
    linear: nn.Linear | None = field(default=None, repr=False)
    gather: Callable[[Tensor], Tensor] = field(default=same, repr=False)
