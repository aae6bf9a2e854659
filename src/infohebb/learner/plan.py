"""What all steps of a learner have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from infohebb.errors import MismatchError
from infohebb.learner.bounds import Selection
from infohebb.learner.choose import Choose
from infohebb.networks.plain.layered import LayeredNetwork
from infohebb.rules.contract import LearningRule


@dataclass
class Plan:
    """A model, a rule, and where the units and the head lie.

    `activities` holds, by the unit's name, what picks the activity out of its output; `pick` picks the logits out of
    the network's. `compiled` holds compiled forwards by the module's name, `linear` the name of each unit's only Linear
    by the unit's name, for rules that need that.
    """

    model: nn.Module
    rule: LearningRule
    selection: Selection
    classes: int | None
    activities: Mapping[str, Choose] = field(default_factory=dict)
    pick: Choose | None = None
    compiled: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    linear: Mapping[str, str] = field(default_factory=dict)
    modules: dict[str, nn.Module] = field(default_factory=dict)  # where units and head begin and end, by name
    places: list[tuple[dict[str, nn.Module | None], str, nn.Module]] = field(default_factory=list)
    parameters: list[tuple[dict[str, Any], str, nn.Parameter, bool]] = field(default_factory=list)


def modules_of(plan: Plan) -> dict[str, nn.Module]:
    """Return the modules of units and head by name.  Raises MismatchError for one that is not there."""
    names = [name for bounds in plan.selection.units for name in (*bounds.modules, bounds.output)]
    try:
        return {name: plan.model.get_submodule(name) for name in [*names, *plan.selection.head]}
    except AttributeError as error:
        raise MismatchError(f"the model has changed since the Learner was made: {error}; make a new Learner") from error


def places_of(plan: Plan) -> list[tuple[dict[str, nn.Module | None], str, nn.Module]]:
    """Return where each module of units and head is kept: the children of its parent, its name there, the module."""
    found = []
    for name, module in plan.modules.items():
        parent, _, last = name.rpartition(".")
        if name:
            found.append((plan.model.get_submodule(parent)._modules, last, module))
    return found


def check_unchanged(plan: Plan) -> None:
    """Raise MismatchError if a module of a unit or the head is another one than when the learner was made."""
    for children, name, module in plan.places:
        if children.get(name) is not module:
            break
    else:
        return
    for name, module in modules_of(plan).items():
        if module is not plan.modules[name]:
            raise MismatchError(
                f"{name} is another module than when the Learner was made; make a new Learner of the changed model"
            )


def parameters_in(model: nn.Module) -> list[tuple[dict[str, Any], str, nn.Parameter, bool]]:
    """Return each parameter: the parameters of its module, its name there, itself, and whether it is trained."""
    return [
        (module._parameters, name, parameter, parameter.requires_grad)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]


def has_same_parameters(plan: Plan) -> bool:
    """Whether the model's parameters are those that were checked, and the same of them are trained."""
    for kept, name, parameter, trained in plan.parameters:  # at each step, so it is to be fast
        if kept.get(name) is not parameter or parameter.requires_grad != trained:
            return False
    return True


def follows_frozen_units(rule: LearningRule) -> bool:
    """Whether a rule looks at frozen units too: it has parameters or memories of its own that a step changes."""
    return bool(rule.updated_buffers) or next(rule.parameters(), None) is not None


def stacked_in(model: nn.Module) -> int | None:
    """Return how many networks a model of ours stacks; None for one."""
    return model.stacked if isinstance(model, LayeredNetwork) else None


def call(model: nn.Module, inputs: Any) -> Any:
    """Return what a model makes of a tensor, a tuple of arguments or a mapping of keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
