"""A pass that torch.compile can follow: forwards in place of hooks, and all derivatives taken inside one graph."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils._pytree import tree_map_only

from infohebb.errors import MismatchError
from infohebb.functional import dropout as dropping
from infohebb.functional import plasticity
from infohebb.functional.products import Precision
from infohebb.learner.borders import check_activity, check_logits, seen_by_rule, with_terms, without_autocast
from infohebb.learner.bounds import Bounds, trainable
from infohebb.learner.neurons import check_product, layer_gradients
from infohebb.learner.plan import Plan, call, follows_frozen_units, stacked_in
from infohebb.learner.senders import has_hooks
from infohebb.networks.plain.divisive_norm import DivisiveNorm
from infohebb.networks.plain.dropout import Dropout
from infohebb.networks.plain.layers import Layer
from infohebb.networks.plain.leaky import LeakyIntegrator
from infohebb.networks.plain.stacked import StackedLinear
from infohebb.networks.unit import Unit
from infohebb.rules.contract import LocalError, Neurons, Output

Forward = Callable[..., Any]
SAMPLE_BY_SAMPLE = frozenset(  # modules of which each row of a matrix, a sample, goes its own way
    [
        *(nn.Sequential, Layer, nn.Linear, StackedLinear, LeakyIntegrator, nn.LayerNorm, DivisiveNorm, nn.Identity),
        *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    ]
)


class UntraceableError(Exception):
    """What a step that should be one graph cannot be."""


class Traced:
    """What all traced passes of a learner have in common, and the forwards that the model's modules run in them.

    `walk` is the pass under way. Forwards look it up, so that they are the same objects from step to step: code that
    torch.compile has made for them stays valid.
    """

    def __init__(self, plan: Plan):
        self.plan, self.model = plan, plan.model
        self.bounds = plan.selection.units
        self.parameters = [bounds.parameters(plan.model) for bounds in self.bounds]
        self.head = trainable(plan.model, plan.selection.head)
        self.everything = trainable(plan.model, [""])
        self.stacked, self.follows_frozen = stacked_in(plan.model), follows_frozen_units(plan.rule)
        self.linear = [plan.linear[bounds.unit.name] for bounds in self.bounds] if plan.rule.needs_neurons else []
        if self.linear and not all(self.parameters):
            raise UntraceableError("a unit is frozen, whose synapses the rule follows")
        check_numbers(plan)
        check_hooks(plan)
        self.walk: TracedPass | None = None
        self.forwards: list[tuple[nn.Module, Forward]] = []
        self._replace_products()
        for place, bounds in enumerate(self.bounds):
            self._replace_unit(place, bounds)
        for name in plan.selection.head:
            self._replace(name, self._head_forward)
        for name in self.linear:
            self._replace(name, self._linear_forward)
        self._replace_shared()

    def _replace_products(self) -> None:
        """Let linear layers give their weights' gradients as plain products, where autograd takes them."""
        plan = self.plan
        inside = {m for bounds in self.bounds for m in modules_of_unit(plan.model, bounds)}
        of_autograd = [m for m in plan.model.modules() if not (plan.rule.needs_neurons and m in inside)]
        alone = self._modules_that_learn_from_last() if plan.rule.learns_from_last else set()
        for module in of_autograd:
            if isinstance(module, (nn.Linear, StackedLinear)) and type(module) in (nn.Linear, StackedLinear):
                self.forwards.append((module, partial(multiply, module, last_only=module in alone)))

    def _modules_that_learn_from_last(self) -> set[nn.Module]:
        """Return modules of units in which samples go their own way: where only the last has an error, only it counts.

        What the unit's activity is picked by is not known to do so.
        """
        found: set[nn.Module] = set()
        for bounds in self.bounds:
            inside = modules_of_unit(self.model, bounds)
            if bounds.unit.name not in self.plan.activities and all(map(goes_by_sample, inside)):
                found |= inside
        return found

    def _replace_shared(self) -> None:
        """Let divisive norms give what the rule has computed already, and dropouts drop what was drawn before."""
        for norm in {bounds.unit.divisive_norm for bounds in self.bounds}:
            if norm is not None:
                self.forwards.append((norm, self._norm_forward(norm.forward)))
        for module in self.model.modules():
            if isinstance(module, Dropout):
                self.forwards.append((module, self._dropout_forward(module)))

    def _replace(self, name: str, make: Callable[..., Forward], *args: Any) -> None:
        module = self.model.get_submodule(name)
        before = [forward for other, forward in self.forwards if other is module]
        self.forwards = [(other, forward) for other, forward in self.forwards if other is not module]
        self.forwards.append((module, make(before[0] if before else module.forward, *args)))

    def _replace_unit(self, place: int, bounds: Bounds) -> None:
        if self.model.get_submodule(bounds.first)._forward_pre_hooks:
            raise UntraceableError(f"{bounds.first} has a forward pre-hook, such as one that makes its weight")
        self._replace(bounds.first, self._first_forward)
        self._replace(bounds.last, self._last_forward, place)

    def _first_forward(self, forward: Forward) -> Forward:
        def first(*args: Any, **kwargs: Any) -> Any:
            assert self.walk is not None
            if self.walk.connected:
                return forward(*args, **kwargs)
            args, kwargs = cut(args), cut(kwargs)
            torch.set_grad_enabled(True)
            return forward(*args, **kwargs)

        return first

    def _last_forward(self, forward: Forward, place: int) -> Forward:
        def last(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            assert self.walk is not None
            if self.walk.connected:
                return output
            torch.set_grad_enabled(False)
            return self.walk.leave(place, output)

        return last

    def _head_forward(self, forward: Forward) -> Forward:
        def head(*args: Any, **kwargs: Any) -> Any:
            assert self.walk is not None
            if self.walk.connected or self.walk.features is not None:  # the head has begun
                return forward(*args, **kwargs)
            args, kwargs = cut(args), cut(kwargs)
            torch.set_grad_enabled(True)
            self.walk.features = args[0] if args else next(iter(kwargs.values()))
            return forward(*args, **kwargs)

        return head

    def _linear_forward(self, forward: Forward) -> Forward:
        def linear(input: Tensor) -> Tensor:  # noqa: A002 - torch's own name, by which it may be given
            preactivation = forward(input)
            assert self.walk is not None
            self.walk.synapses = (input, preactivation)
            return preactivation.clone()  # an activation may work in place

        return linear

    def _norm_forward(self, forward: Forward) -> Forward:
        def norm(activity: Tensor) -> Tensor:
            assert self.walk is not None
            received, normalised = self.walk.ready
            return normalised if activity is received and normalised is not None else forward(activity)

        return norm

    def _dropout_forward(self, module: Dropout) -> Forward:
        def drop(x: Tensor) -> Tensor:
            if not module.training or module.rate == 0:
                return x
            assert self.walk is not None
            mask = self.walk.masks.pop(0)
            return (dropping.alpha_dropout if module.alpha else dropping.dropout)(x, module.rate, mask)

        return drop


class TracedPass:
    """A batch on its way, inside torch.compile: the walk that a rule's `backward` is given there.

    `masks` says which units each dropout drops, in the order of its calls.
    """

    def __init__(self, traced: Traced, inputs: Any, samples: int, masks: Sequence[Tensor], *, onset: bool):
        plan = traced.plan
        self.traced, self.model, self.inputs, self.samples, self.onset = traced, plan.model, inputs, samples, onset
        self.units = [bounds.unit for bounds in traced.bounds]
        self.classes, self.has_head, self.head_modules = plan.classes, bool(plan.selection.head), plan.selection.head
        self.terms: dict[str, Mapping[str, Tensor]] = {}
        self.masks = list(masks)
        self.connected = False  # whether units are on one graph
        self.features: Tensor | None = None
        self.synapses: tuple[Tensor, Tensor] | None = None
        self.ready: tuple[Tensor | None, Tensor | None] = (None, None)
        self._leave: Callable[[int, Any], Any] | None = None
        self._sendable: list[tuple[Tensor, Sequence[Parameter]]] = []

    def restrict(self, rows: slice) -> None:
        """Take only these samples of the batch."""
        self.inputs = tree_map_only(Tensor, lambda tensor: tensor[rows], self.inputs)
        self.samples = len(range(self.samples)[rows])

    def leave(self, place: int, output: Any) -> Any:
        """Return what goes on from a unit."""
        return cut(output) if self._leave is None else self._leave(place, output)

    def local(self, learn: Callable[[Unit, Tensor], LocalError | None], *, once: bool = False) -> Output:
        """Run the network; each unit learns from `learn(unit, z)` before the next one runs."""
        del once  # the first, plain step has looked

        def leave(place: int, output: Any) -> Any:
            unit, parameters = self.units[place], self.traced.parameters[place]
            z = self._activity(unit, output)
            onwards = cut(output)
            if parameters or self.traced.follows_frozen:
                normalised = self._learn(place, parameters, z, learn)
                if z is output and unit.divisive_norm is not None:
                    self.ready = (onwards, None if normalised is None else normalised.to(onwards.dtype))
            return onwards

        self._leave = leave
        return self._run(labels=self.has_head)

    def neurons(self, learn: Callable[[Unit, Neurons], Tensor | None]) -> Output:
        """Run the network; each unit learns from its synapses by `give`."""

        def leave(place: int, output: Any) -> Any:
            unit = self.units[place]
            z = self._activity(unit, output)
            onwards = cut(output)
            assert self.synapses is not None
            pre, preactivation = self.synapses
            (slope,) = torch.autograd.grad(z, preactivation, torch.ones_like(z))
            found = [each.detach() for each in (pre, z, slope)]
            found = [each if each.dtype == torch.float64 else each.float() for each in found]
            with without_autocast(z.device.type):
                normalised = learn(unit, Neurons(self.traced.linear[place], *found))
            if z is output and unit.divisive_norm is not None:
                self.ready = (onwards, None if normalised is None else normalised.to(onwards.dtype))
            return onwards

        self._leave = leave
        return self._run(labels=self.has_head)

    def cut(self) -> tuple[Output, list[tuple[Unit, Tensor]]]:
        """Refuse: no traced pass keeps the graphs of units."""
        raise MismatchError("this rule's step cannot be compiled as a whole")

    def frozen(self) -> Output:
        """Run the network without graphs below the head."""
        self._leave = None
        return self._run(labels=self.has_head)

    def whole(self) -> Output:
        """Run the network on one graph."""
        self.connected = True
        with torch.enable_grad():
            logits = self._logits(call(self.model, self.inputs))
        self._sendable.append((logits, self.traced.everything))
        return Output(logits, None)

    def send(self, output: Tensor, error: Tensor, value: Tensor | None = None) -> None:
        """Send dL/d(output) back to the parameters that it depends on."""
        del value
        for sendable, parameters in self._sendable:
            if sendable is output and parameters:
                fill(parameters, output, error)

    def give(
        self,
        layer: str,
        pre: Tensor,
        error: Tensor,
        *,
        third_factor: Tensor | None = None,
        post: Tensor | None = None,
        bias: bool = True,
        value: Tensor | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Fill the gradients of a weight layer: error × pre, summed over rows, and for its bias the error alone."""
        del third_factor, post, value
        module = self.model.get_submodule(layer)
        pre, error = check_product(layer, module, pre, error)
        for parameter, gradient in layer_gradients(module, pre, error, bias=bias, precision=precision):
            parameter.grad = gradient.to(parameter.dtype)

    def _learn(self, place: int, parameters: Sequence[Parameter], z: Tensor, learn: Callable[..., Any]) -> Any:
        bounds = self.traced.bounds[place]
        unit = bounds.unit
        detached, axis = seen_by_rule([self.model.get_submodule(n) for n in bounds.modules], unit, z)
        with without_autocast(z.device.type):
            found = learn(unit, detached)
        if found is None:
            return None
        if found.terms:
            self.terms[unit.name] = with_terms(self.terms.get(unit.name, {}), found.terms)
        for name, gradient in found.gradients.items():
            self.traced.plan.rule.get_parameter(name).grad = gradient
        error, normalised = found.error, found.normalised
        if axis != 1:
            error = error.movedim(1, axis)
            normalised = None if normalised is None else normalised.movedim(1, axis)
        if parameters:
            fill(parameters, z, error)
        return normalised

    def _activity(self, unit: Unit, output: Any) -> Tensor:
        return check_activity(unit.name, output, self.traced.plan.activities.get(unit.name), self.samples)

    def _logits(self, output: Any) -> Tensor:
        return check_logits(output, self.traced.plan.pick, self.samples, self.classes, stacked=self.traced.stacked)

    def _run(self, *, labels: bool) -> Output:
        with torch.no_grad():
            output = call(self.model, self.inputs)
        if not labels:
            return Output(None, self.features)
        logits = self._logits(output)
        self._sendable.append((logits, self.traced.head))
        return Output(logits, self.features)


class Multiply(torch.autograd.Function):
    """W x, whose derivative by the weight is a sum of outer products that torch.compile joins with what uses it.

    With `last_only` it is that of the last sample, the only one with an error.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, last_only: bool) -> Tensor:
        """Return the product (rows × outputs), x (rows × inputs), of stacked networks with the networks first."""
        del last_only
        return x @ weight.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep the operands."""
        del output
        x, weight, ctx.last_only = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives by both."""
        (error,), (x, weight) = errors, ctx.saved_tensors
        by_x = error @ weight if ctx.needs_input_grad[0] else None
        rows = slice(-1, None) if ctx.last_only else slice(None)
        return by_x, plasticity.hebbian(x[..., rows, :], error[..., rows, :]), None


def modules_of_unit(model: nn.Module, bounds: Bounds) -> set[nn.Module]:
    """Return all modules of a unit."""
    return {module for name in bounds.modules for module in model.get_submodule(name).modules()}


def goes_by_sample(module: nn.Module) -> bool:
    """Whether each row of a matrix, a sample, goes its own way through a module."""
    mixes = isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1
    return type(module) in SAMPLE_BY_SAMPLE and not mixes


def multiply(layer: nn.Linear | StackedLinear, input: Tensor, *, last_only: bool) -> Tensor:  # noqa: A002
    """Return what a layer makes of its input, named as torch does; `last_only` holds where rows are samples."""
    x, last_only = input, last_only and (input.dim() == 2 or isinstance(layer, StackedLinear))
    if isinstance(layer, StackedLinear) and x.dim() == 2:  # one input for all networks
        product = Multiply.apply(x, layer.weight.flatten(0, 1), last_only).unflatten(1, layer.weight.shape[:2])
    elif isinstance(layer, StackedLinear):
        product = Multiply.apply(x.transpose(0, 1), layer.weight, last_only).transpose(0, 1)
    else:
        product = Multiply.apply(x, layer.weight, last_only)
    return product if layer.bias is None else product + layer.bias


def check_numbers(plan: Plan) -> None:
    """Raise UntraceableError for single float64 numbers that steps change: torch 2.13 loses that in compiled code."""
    changed = plan.rule.updated_buffers
    for name, buffer in [*plan.rule.named_buffers(), *plan.model.named_buffers()]:
        if not buffer.dim() and buffer.dtype == torch.float64 and name.rpartition(".")[2] in changed:
            raise UntraceableError(
                f"torch.compile loses changes of single float64 numbers, such as {name}; take float32"
            )


def check_hooks(plan: Plan) -> None:
    """Raise UntraceableError for a parameter with a hook on its gradient, which compiled code would not call."""
    for name, parameter in [*plan.model.named_parameters(), *plan.rule.named_parameters()]:
        if has_hooks(parameter):
            raise UntraceableError(f"{name} has a hook on its gradient")


def fill(parameters: Sequence[Parameter], output: Tensor, error: Tensor) -> None:
    """Add the derivative of an output, times the error, to the gradients of the parameters that it depends on."""
    gradients = torch.autograd.grad(output, parameters, error.to(output.dtype), allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            if gradient.stride() != parameter.stride():  # torch's fused optimizers want both to lie alike in memory
                gradient = torch.empty_like(parameter).copy_(gradient)
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def cut(values: Any) -> Any:
    """Return the same without graphs."""
    if isinstance(values, Tensor):
        return values.detach()
    return tree_map_only(Tensor, lambda tensor: tensor.detach(), values) if values else values
