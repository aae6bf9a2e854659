"""Units of one Linear and an elementwise activation: where each synapse knows its input and its neuron's slope."""

from typing import Any

import torch
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.learner.bounds import Bounds
from infohebb.learner.forwards import replaced
from infohebb.learner.probing import evaluating
from infohebb.networks.plain.randomness import restored_random_state

WANTED = "it learns from single synapses, so a unit is one nn.Linear and an elementwise activation without parameters"


def linear_of(model: nn.Module, bounds: Bounds) -> str:
    """Return the name of a unit's only Linear.  Raises MismatchError for a unit with anything else to train."""
    inside = [
        (f"{top}.{name}" if name else top, module)
        for top in bounds.modules
        for name, module in model.get_submodule(top).named_modules()
    ]
    linear = [name for name, module in inside if isinstance(module, nn.Linear)]
    others = [type(m).__name__ for name, m in inside if name not in linear and [*m.parameters(recurse=False)]]
    if len(linear) != 1 or others:
        holds = f"{len(linear)} Linear" + "".join(f" and a {other}" for other in others[:2])
        raise MismatchError(f"unit {bounds.unit.name} holds {holds}; {WANTED}")
    return linear[0]


def check_elementwise(model: nn.Module, bounds: Bounds) -> None:
    """Note a unit's Linear.  Raises MismatchError unless each activity depends on its own preactivation alone."""
    linear = model.get_submodule(linear_of(model, bounds))
    assert isinstance(linear, nn.Linear)
    bounds.unit.linear = linear
    like = linear.weight
    if like.is_meta:  # without numbers there is nothing to see
        return
    received = torch.zeros(1, linear.in_features, dtype=like.dtype, device=like.device)
    tops = [model.get_submodule(name) for name in bounds.modules]

    def activity(preactivation: Tensor) -> Any:
        with replaced([(linear, lambda _: preactivation.clone())]):
            x = received
            for top in tops:
                x = top(x)
        return x

    first = torch.linspace(-1, 1, linear.out_features, dtype=like.dtype, device=like.device)[None]
    second = first.clone()
    second[0, 0] += 1
    try:
        with evaluating(model), torch.no_grad(), restored_random_state():
            z, changed = activity(first), activity(second)
    except Exception as error:
        words = " ".join(str(error).split())[:100]
        raise MismatchError(f"unit {bounds.unit.name} does not take rows of numbers ({words}); {WANTED}") from error
    mixed = z.shape != first.shape or not torch.equal(z[0, 1:], changed[0, 1:])
    if mixed:
        raise MismatchError(f"in unit {bounds.unit.name} an activity depends on other neurons; {WANTED}")


class Preactivation:
    """A hook on a Linear: keeps what it received, and begins a graph at the preactivation, for the neurons' slopes."""

    def __init__(self) -> None:
        self.pre: Tensor | None = None
        self.preactivation: Tensor | None = None

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Return a copy of the preactivation: an activation may work in place."""
        del module
        self.pre = args[0].detach()
        torch.set_grad_enabled(True)
        self.preactivation = output.detach().requires_grad_()
        return self.preactivation.clone()

    def slope_of(self, unit: str, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the Linear received, and dz/da.  Raises MismatchError for an activity without a graph."""
        if self.pre is None or self.preactivation is None or not z.requires_grad:
            raise MismatchError(f"the activity of unit {unit} has no derivative; does its forward detach it? {WANTED}")
        (slope,) = torch.autograd.grad(z, self.preactivation, torch.ones_like(z))
        return self.pre, slope
