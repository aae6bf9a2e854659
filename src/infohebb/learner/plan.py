"""What all steps of a learner have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from infohebb.learner.choose import Choose
from infohebb.learner.selection import Selection
from infohebb.rules.contract import LearningRule


@dataclass
class Plan:
    """A model, a rule, and where the units and the head lie.

    `activities` holds, by the unit's name, what picks the activity out of its output; `pick` picks the logits out of
    the network's. `compiled` holds compiled forwards by the module's name.
    """

    model: nn.Module
    rule: LearningRule
    selection: Selection
    classes: int | None
    activities: Mapping[str, Choose] = field(default_factory=dict)
    pick: Choose | None = None
    compiled: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


def call(model: nn.Module, inputs: Any) -> Any:
    """Return what a model makes of a tensor, a tuple of arguments or a mapping of keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
