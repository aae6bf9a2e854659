"""Units of one Linear and an elementwise activation: where each synapse knows its input and its neuron's slope."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.hooks import RemovableHandle

from infohebb.errors import MismatchError
from infohebb.functional import plasticity
from infohebb.functional.products import Precision
from infohebb.learner.borders import check_activity
from infohebb.learner.bounds import Bounds
from infohebb.learner.choose import Choose
from infohebb.learner.forwards import replaced
from infohebb.learner.layers import NORMS
from infohebb.learner.probing import evaluating
from infohebb.networks.plain.randomness import restored_random_state
from infohebb.networks.plain.stacked import StackedLinear
from infohebb.networks.unit import Unit
from infohebb.rules.contract import Neurons

WANTED = "it learns from single synapses, so a unit is one nn.Linear and an elementwise activation without parameters"
OWN = {"weight", "bias"}
FORWARDS = (nn.Linear.forward, StackedLinear.forward, nn.Module.forward)  # the last: weights of a network that settles


def linear_of(model: nn.Module, bounds: Bounds) -> str:
    """Return the name of a unit's only Linear.  Raises MismatchError for other parameters, and for norms."""
    inside = [
        (f"{top}.{name}" if name else top, module)
        for top in bounds.modules
        for name, module in model.get_submodule(top).named_modules()
    ]
    linear = [name for name, module in inside if isinstance(module, nn.Linear)]
    rest = [module for name, module in inside if name not in linear]
    others = [type(m).__name__ for m in rest if isinstance(m, NORMS) or [*m.parameters(recurse=False)]]
    if len(linear) != 1 or others:
        count = f"{len(linear) or 'no'} Linear"
        holds = count + "".join(f" and a {other}" for other in others[:2])
        raise MismatchError(f"unit {bounds.unit.name} holds {holds}; {WANTED}")
    return linear[0]


def check_linear(name: str, module: nn.Module) -> nn.Module:
    """Return a layer that gives W x + b of its own parameters, pruned or not.  Raises MismatchError for others."""
    pruned = {key.replace("_mask", "_orig") for key in module._buffers}
    if getattr(type(module), "forward", None) not in FORWARDS or not module._parameters.keys() - pruned <= OWN:
        raise MismatchError(
            f"{name} is a {type(module).__name__} that computes more than W x + b from its parameters, and the rule "
            "states its gradient for just that; take an nn.Linear without weight norm or a forward of its own"
        )
    return module


def check_product(name: str, module: nn.Module, pre: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return both factors of a layer's gradient in one precision, float32 at least.

    Raises MismatchError for shapes that are not those of the layer.
    """
    weight = module._parameters.get("weight", module._parameters.get("weight_orig"))
    assert weight is not None
    shape = (*pre.shape[:-2], error.shape[-1], pre.shape[-1])
    if pre.dim() != weight.dim() or pre.shape[:-1] != error.shape[:-1] or shape != weight.shape:
        raise MismatchError(
            f"{name} is given pre {tuple(pre.shape)} and error {tuple(error.shape)} for weights {tuple(weight.shape)}; "
            "give (rows × inputs) and (rows × outputs)"
        )
    double = torch.float64 in (pre.dtype, error.dtype)
    return (pre.double(), error.double()) if double else (pre.float(), error.float())


def layer_gradients(
    module: nn.Module, pre: Tensor, error: Tensor, *, bias: bool, precision: Precision
) -> Iterator[tuple[Parameter, Tensor]]:
    """Yield what of a layer learns with its gradient: error × pre, summed over rows, and of a bias the error alone.

    Without `bias` that one's gradient is zero; of pruned weights the gradient is zero.
    """
    for name, parameter in module._parameters.items():
        if parameter is None or not parameter.requires_grad:
            continue
        if name.startswith("bias"):
            gradient = error.sum(-2) if bias else torch.zeros_like(parameter)
        else:
            gradient = plasticity.hebbian(pre, error, precision)
        mask = module._buffers.get(name.replace("_orig", "_mask"))
        yield parameter, gradient if mask is None else gradient * mask


def check_elementwise(model: nn.Module, bounds: Bounds, choose: Choose | None = None) -> str:
    """Note a unit's Linear, and return its name.

    Raises MismatchError unless each activity depends on its own preactivation alone.
    """
    name, unit = linear_of(model, bounds), bounds.unit
    linear = check_linear(name, model.get_submodule(name))
    assert isinstance(linear, nn.Linear)
    unit.linear = linear
    check_vectors(unit.name, unit.shape, linear)
    like = linear.weight.detach()
    if like.is_meta:  # without numbers there is nothing to see
        return name
    received = like.new_zeros(1, linear.in_features)
    tops = [model.get_submodule(name) for name in bounds.modules]

    def activity(preactivation: Tensor) -> Tensor:
        with replaced([(linear, lambda *_, **__: preactivation.clone())]):
            x: Any = received
            for top in tops:
                x = top(x)
        return check_activity(unit.name, x, choose, 1)

    try:
        with evaluating(model), restored_random_state():
            mixes = depends_on_others(activity, torch.linspace(-1, 1, linear.out_features).to(like)[None])
    except MismatchError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:100]
        raise MismatchError(
            f"unit {unit.name} has no activity, or no derivative, for a row of numbers ({words}); {WANTED}"
        ) from error
    if mixes:
        raise MismatchError(f"in unit {unit.name} an activity depends on other neurons; {WANTED}")
    return name


def depends_on_others(activity: Callable[[Tensor], Tensor], a: Tensor) -> bool:
    """Whether an activity depends on other preactivations than its neuron's: tried by changes of half of them.

    Raises RuntimeError for activities without a derivative.
    """
    with torch.enable_grad():
        z = activity(a.clone().requires_grad_())
    if not z.requires_grad:
        raise RuntimeError("the activity is detached from the preactivation")
    z = z.detach()
    if z.shape != a.shape:
        return True
    noise = 4 * torch.randn(a.shape, generator=torch.Generator().manual_seed(0)).to(a)
    for chosen in halves(a.shape[1]):
        changed = activity(torch.where(chosen.to(a.device), a + noise, a))
        if not torch.allclose(changed[:, ~chosen], z[:, ~chosen], rtol=0, atol=0, equal_nan=True):
            return True
    return False


def halves(count: int) -> Iterator[Tensor]:
    """Yield masks such that of each two neurons either is chosen without the other by one of them."""
    neurons = torch.arange(count)
    for bit in range((count - 1).bit_length()):
        chosen = (neurons >> bit) % 2 == 1
        yield chosen
        yield ~chosen


def check_vectors(unit: str, shape: tuple[int, ...] | None, linear: nn.Linear) -> None:
    """Raise MismatchError for activities of one sample that are not a number for each neuron."""
    if shape is not None and shape != (linear.out_features,):
        raise MismatchError(f"unit {unit} has activities of shape {shape}, not one per neuron; {WANTED}")


class Preactivation:
    """A hook on a unit's Linear: keeps what it received, and begins a graph there, for each neuron's derivative."""

    def __init__(self, model: nn.Module, unit: Unit, layer: str):
        self.unit, self.layer, self._linear = unit.name, layer, unit.linear
        self._pre: Tensor | None = None
        self._preactivation: Tensor | None = None
        if self._linear is None or model.get_submodule(layer) is not self._linear:
            raise MismatchError(
                f"{layer} is another module than when the Learner was made; make a new Learner of the changed model"
            )

    def register(self) -> RemovableHandle:
        """Put the hook in place."""
        assert self._linear is not None
        return self._linear.register_forward_hook(self, with_kwargs=True)

    def __call__(
        self, module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
    ) -> Tensor:
        """Return a copy of the preactivation, for an activation may work in place.

        Raises MismatchError for a second call in a step.
        """
        del module
        if self._pre is not None:
            raise MismatchError(f"unit {self.unit} calls its Linear {self.layer} twice; {WANTED}")
        self._pre = (args[0] if args else kwargs["input"]).detach()
        torch.set_grad_enabled(True)  # until the unit is left
        self._preactivation = output.detach().requires_grad_()
        return self._preactivation.clone()

    def neurons(self, z: Tensor) -> Neurons:
        """Return what a unit of that activity has at hand, in float32 at least.

        Raises MismatchError for activities that are not a number for each neuron, and for those without a derivative.
        """
        if self._pre is None or self._preactivation is None or self._linear is None:
            raise MismatchError(f"unit {self.unit} does not call its Linear {self.layer}; {WANTED}")
        if not z.requires_grad:
            raise MismatchError(f"the activity of unit {self.unit} has no derivative; does it detach it? {WANTED}")
        check_vectors(self.unit, tuple(z.shape[1:]), self._linear)
        if self._pre.dim() != 2:
            raise MismatchError(f"{self.layer} receives {tuple(self._pre.shape)}, not rows of numbers; {WANTED}")
        (slope,) = torch.autograd.grad(z, self._preactivation, torch.ones_like(z))
        found = (self._pre, z.detach(), slope)
        return Neurons(self.layer, *(each if each.dtype == torch.float64 else each.float() for each in found))
