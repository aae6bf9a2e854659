"""Rules that send the output's error down through any module, with matrices of their own in the place of weights.

x (m × … × n')  input of a weight layer    W (n × n', or kernels)  its weight    B (shape of W)  feedback
δ (m × … × n)   error at its output        error at x = δ B, where backprop has δ W

All else that the error passes (activations, norms, pooling, attention between activities) is torch's own derivative.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from infohebb.errors import MismatchError
from infohebb.functional.feedback import ConvolutionInput, error_below_convolution, error_below_linear
from infohebb.rules import contract
from infohebb.rules.base import Targets
from infohebb.rules.contract import Loss, Step, Walk, label_loss
from infohebb.rules.escaped_weights import check_frozen_weights, check_weights

Below = Callable[[Tensor, Tensor], Tensor]  # error at the output, feedback -> error at the input
Table = Mapping[int, str]  # a model's weights: names by id

CONVOLUTIONS: dict[Any, int] = {functional.conv1d: 1, functional.conv2d: 2, functional.conv3d: 3}  # spatial axes
CALLS = frozenset({functional.linear, *CONVOLUTIONS})
ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
REDISPATCH = getattr(torch.overrides, "redispatch_function", None)  # of newer torch: reaches calls inside attention


class CarryError(torch.autograd.Function):
    """The output of a weight layer as it is. Backward, the weight gets its own error, and x the error that passes B."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor, weight: Tensor, below: Below) -> Tensor:
        """Return the output, on the graph of both x and output; `below` makes the error at x of error and weight."""
        ctx.save_for_backward(weight)
        ctx.below, ctx.dtype = below, x.dtype
        return output.detach()  # no view, so that what follows may work in place

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *errors: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return the error at x, and the error itself for the output's own graph."""
        (error,) = errors
        if not ctx.needs_input_grad[0]:
            return None, error, None, None
        (weight,) = ctx.saved_tensors
        return ctx.below(error, weight).to(ctx.dtype), error, None, None


class CarriedErrors(TorchFunctionMode):
    """While it is active, errors pass the model's weights in calls of F.linear and F.conv1d/2d/3d by `rule`'s feedback.

    `table` names the weights by id. Values are those of the plain calls. Calls inside
    F.multi_head_attention_forward are reached too, where torch has `torch.overrides.redispatch_function`.
    `calls` counts what was called, by name: of those calls the weight's.
    """

    def __init__(self, rule: "FeedbackRule", table: Table):
        super().__init__()
        self.rule, self.table = rule, table
        self.calls: Counter[str] = Counter()

    @torch.compiler.disable  # what a user has compiled runs as it is written
    def __torch_function__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the call, which is one of a weight of the model or any other."""
        kwargs = kwargs or {}
        if func in CALLS:
            weight = args[1] if len(args) > 1 else kwargs.get("weight")
            if id(weight) in self.table:
                return self._carry(func, self.table[id(weight)], args, kwargs)
        self.calls[getattr(func, "__name__", "")] += 1
        if func is functional.multi_head_attention_forward and REDISPATCH is not None:
            with self:  # a mode is off while it handles a call
                return REDISPATCH(func, types, args, kwargs)
        return func(*args, **kwargs)

    def _carry(self, func: Any, name: str, args: Any, kwargs: Any) -> Tensor:
        self.calls[name] += 1
        given = {**dict(zip(ARGUMENTS, args, strict=False)), **kwargs}
        x, weight = given["input"], given["weight"]
        passes = torch.is_grad_enabled() and x.requires_grad
        if passes:
            self.rule.check_weight(name, weight)
            cut = x.detach()
            args, kwargs = ((cut, *args[1:]), kwargs) if args else ((), {**kwargs, "input": cut})
        output = func(*args, **kwargs)
        if not passes and not output.requires_grad:
            return output
        _check_kept(type(self.rule).__name__, name)
        send = error_below_linear
        if func in CONVOLUTIONS:
            send = partial(error_below_convolution, received=_received(x, CONVOLUTIONS[func], given))
        return CarryError.apply(x, output, weight.detach(), partial(self._below, name, send))

    def _below(self, name: str, send: Below, error: Tensor, weight: Tensor) -> Tensor:
        return send(error, self.rule.feedback_matrix(name, weight))


class FeedbackRule(contract.LearningRule):
    """Sends the label loss's error down the whole network, through `feedback_matrix` in the place of each weight.

    Weights are the model's parameters of two or more dimensions that F.linear or F.conv1d/2d/3d are called with. One
    that carries an error in another way (a recurrent layer, x @ w, a parametrization, cross attention) is refused by
    name in the first step; so is checkpointing. Buffers are constants, which torch's own derivative is right for.
    """

    needs_units: ClassVar[bool] = False
    intercepts_calls: ClassVar[bool] = True
    loss: Loss | None = None

    def __init__(self) -> None:
        super().__init__()
        self._checked: set[int] = set()  # models with their calls and trained parameters, as hashes

    @abstractmethod
    def feedback_matrix(self, name: str, weight: Tensor) -> Tensor:
        """Return what carries the error below the weight of that name, of its shape."""

    def check_weight(self, name: str, weight: Tensor) -> None:
        """Raise MismatchError if there is nothing that carries an error below that weight."""
        del name, weight

    def reset(self) -> None:
        """Forget which models have been checked."""
        self._checked.clear()

    @torch.no_grad()
    def backward(self, walk: Walk, inputs: Tensor, targets: Targets) -> Step:
        """Run the whole network on one graph, and send the label loss down it."""
        del inputs
        parameters = dict(walk.model.named_parameters())
        trained = frozenset(name for name, parameter in parameters.items() if parameter.requires_grad)
        table = {id(parameter): name for name, parameter in parameters.items() if is_weight(parameter)}
        self._check_frozen(walk, table, frozenset(parameters.keys() - trained))
        mode = CarriedErrors(self, table)
        with mode:
            output = walk.whole()
        assert output.logits is not None
        self._check_calls(walk, output.logits, frozenset(mode.calls.items()) | trained)
        logits = output.logits.detach()
        loss, error = label_loss(logits, targets, self.loss)
        walk.send(output.logits, error, loss)
        return Step(loss, logits, targets)

    def _check_frozen(self, walk: Walk, table: Table, frozen: frozenset[str]) -> None:
        """Check frozen weights, once for the same ones, in a run of its own: they leave no trace in a graph."""
        key = hash((id(walk.model), frozen))
        if frozen and key not in self._checked:
            check_frozen_weights(type(self).__name__, walk, CarriedErrors(self, table), CarryError)
            self._checked.add(key)

    def _check_calls(self, walk: Walk, logits: Tensor, seen: frozenset[Any]) -> None:
        """Check the graph of the logits, once for the same calls and the same trained parameters."""
        key = hash((id(walk.model), seen))
        if key not in self._checked:
            check_weights(type(self).__name__, logits, walk.model, CarryError)
            self._checked.add(key)


def is_weight(parameter: Tensor) -> bool:
    """Whether a parameter may be the weight of a layer: floating-point numbers of two or more dimensions."""
    return parameter.dim() > 1 and parameter.is_floating_point()


def _received(x: Tensor, axes: int, given: Mapping[str, Any]) -> ConvolutionInput:
    def each(name: str, default: int) -> tuple[int, ...]:
        value = given.get(name, default)
        value = (value,) if isinstance(value, int) else tuple(value)
        return value * axes if len(value) == 1 else value

    stride, dilation, padding = each("stride", 1), each("dilation", 1), given.get("padding", 0)
    kernel, behind = given["weight"].shape[2:], (0,) * axes
    if padding == "same":  # torch adds the odd zero behind
        zeros = tuple(step * (size - 1) for step, size in zip(dilation, kernel, strict=True))
        before, behind = tuple(count // 2 for count in zeros), tuple(count % 2 for count in zeros)
    else:
        before = (0,) * axes if padding == "valid" else each("padding", 0)
    return ConvolutionInput(x.shape, x.stride(), stride, before, behind, dilation, given.get("groups", 1))


def _check_kept(rule: str, name: str) -> None:
    """Raise MismatchError inside torch.utils.checkpoint, which would call the layer again without the rule."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)  # pyright: ignore[reportAttributeAccessIssue]
    if hooks is not None and getattr(hooks[0], "__module__", "") == "torch.utils.checkpoint":
        raise MismatchError(
            f"{rule} cannot carry an error below {name}: torch.utils.checkpoint computes that part again in the "
            "backward pass, with the weights themselves; leave checkpointing out"
        )
