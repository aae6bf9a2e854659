"""The three ways in which an error reaches the parameters that an output depends on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Parameter

from infohebb.errors import MismatchError
from infohebb.rules.contract import LocalError


class Given(NamedTuple):
    """What the gradient of a weight layer is the product of, where the rule has computed that itself.

    `pre` (rows × inputs) what the layer received, `error` (rows × outputs); of stacked networks both have the networks
    first. `local`: the factors of the error, None for a rule that has not stated them. `bias`: whether the bias learns.
    """

    pre: Tensor
    error: Tensor
    local: LocalError | None
    bias: bool


@runtime_checkable
class Sender(Protocol):
    """Takes errors at outputs; `keeps_graphs` says whether the graphs of units must outlive them."""

    keeps_graphs: bool

    def note(self, unit: str, error: LocalError) -> None:
        """See the error of a unit before it is sent."""
        ...

    def send(
        self, output: Tensor, error: Tensor, parameters: Sequence[Tensor], value: Tensor | None, place: str
    ) -> None:
        """Take the error at the output of a place, whose objective has that value."""
        ...

    def give(self, parameter: Parameter, gradient: Tensor, value: Tensor | None = None) -> None:
        """Take the gradient of a parameter, which the rule has computed itself, of an objective that has that value."""
        ...

    def see(self, layer: str, given: Given) -> None:
        """See what gradients are made of before they are given."""
        ...


@dataclass
class Immediate:
    """Adds to `.grad` at once; the graph is freed.

    `scale`, a number or a GradScaler, multiplies errors before they take the output's dtype.
    """

    scale: float | Tensor | GradScaler = 1.0
    keeps_graphs: bool = False

    def note(self, unit: str, error: LocalError) -> None:
        """Nothing."""

    def send(
        self, output: Tensor, error: Tensor, parameters: Sequence[Tensor], value: Tensor | None, place: str
    ) -> None:
        """Run the output's own derivative down to the parameters."""
        del value
        try:
            torch.autograd.backward(output, self._scaled(error).to(output.dtype), inputs=parameters)
        except RuntimeError as failed:
            if "inplace operation" not in str(failed):
                raise
            raise MismatchError(
                f"{place} changes in place what its derivative needs, such as its own input; use the form that "
                "returns a new tensor: x = x + y for x += y, inplace=False"
            ) from failed

    def give(self, parameter: Parameter, gradient: Tensor, value: Tensor | None = None) -> None:
        """Add a gradient."""
        del value
        gradient = self._scaled(gradient).to(parameter.dtype)
        if has_hooks(parameter):
            with torch.enable_grad():
                torch.autograd.backward(parameter.view_as(parameter), gradient)
            return
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def see(self, layer: str, given: Given) -> None:
        """Nothing."""

    def _scaled(self, error: Tensor) -> Tensor:
        if isinstance(self.scale, GradScaler):
            return self.scale.scale(error)
        return error if isinstance(self.scale, float) and self.scale == 1.0 else error * self.scale


def has_hooks(parameter: Parameter) -> bool:
    """Whether a parameter has hooks on its gradient."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)  # pyright: ignore


class Inject(torch.autograd.Function):
    """A scalar with the value of an objective, whose derivative by `output` is the error."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, error: Tensor, value: Tensor) -> Tensor:
        """Return the value."""
        ctx.save_for_backward(error)
        ctx.dtype = output.dtype
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the error times the gradient of the scalar."""
        (error,) = ctx.saved_tensors
        return (error * gradients[0].to(error.dtype)).to(ctx.dtype), None, None


@dataclass
class AsLoss:
    """Collects scalars whose sum, sent back by torch, leaves the same gradients."""

    scalars: list[Tensor] = field(default_factory=list)
    keeps_graphs: bool = True
    has_value: bool = False  # whether any of the scalars has one

    def note(self, unit: str, error: LocalError) -> None:
        """Nothing."""

    def send(
        self, output: Tensor, error: Tensor, parameters: Sequence[Tensor], value: Tensor | None, place: str
    ) -> None:
        """Add a scalar that carries the error."""
        del parameters, place
        self.has_value = self.has_value or value is not None
        value = error.new_zeros(()) if value is None else value
        with torch.enable_grad():
            self.scalars.append(Inject.apply(output, error.view(output.shape), value))

    def give(self, parameter: Parameter, gradient: Tensor, value: Tensor | None = None) -> None:
        """Add a scalar that carries the gradient."""
        self.has_value = self.has_value or value is not None
        value = gradient.new_zeros(()) if value is None else value
        with torch.enable_grad():
            self.scalars.append(Inject.apply(parameter, gradient, value))

    def see(self, layer: str, given: Given) -> None:
        """Nothing."""

    def loss(self, label_loss: Tensor | None = None) -> Tensor:
        """Return the sum; plus the label loss if no scalar has a value, as of gradients that the rule has computed."""
        with torch.enable_grad():
            total = torch.stack([scalar.to(self.scalars[0].dtype) for scalar in self.scalars]).sum()
            return total if self.has_value or label_loss is None else total + label_loss.to(total.dtype)


@dataclass
class Recording:
    """Keeps the error at each weight layer's output, by the layer's name; leaves `.grad` alone.

    `given` holds what gradients that the rule has computed itself are made of, by the layer's name.
    """

    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    given: dict[str, Given] = field(default_factory=dict)
    errors: dict[str, list[Tensor]] = field(default_factory=dict)
    units: dict[str, list[LocalError]] = field(default_factory=dict)
    keeps_graphs: bool = True

    def note(self, unit: str, error: LocalError) -> None:
        """Keep the factors of a unit's error."""
        self.units.setdefault(unit, []).append(error)

    def send(
        self, output: Tensor, error: Tensor, parameters: Sequence[Tensor], value: Tensor | None, place: str
    ) -> None:
        """Run the output's own derivative down to the outputs of weight layers."""
        del parameters, value, place
        names, layers = _flat(self.outputs)
        if not layers:  # a unit without a weight layer, such as a norm, that comes before all others
            return
        gradients = torch.autograd.grad(
            output, layers, error.to(output.dtype).view(output.shape), retain_graph=True, allow_unused=True
        )
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                self.errors.setdefault(name, []).append(gradient)

    def give(self, parameter: Parameter, gradient: Tensor, value: Tensor | None = None) -> None:
        """Leave parameters alone."""

    def see(self, layer: str, given: Given) -> None:
        """Keep a copy."""
        local = given.local
        if local is not None:
            third_factor = None if local.third_factor is None else local.third_factor.clone()
            local = LocalError(third_factor, local.post.clone(), local.error.clone())
        self.given[layer] = Given(given.pre.clone(), given.error.clone(), local, given.bias)


def _flat(outputs: Mapping[str, Iterable[Tensor]]) -> tuple[list[str], list[Tensor]]:
    pairs = [(name, tensor) for name, tensors in outputs.items() for tensor in tensors if tensor.requires_grad]
    return [name for name, _ in pairs], [tensor for _, tensor in pairs]
