"""Finds weights that carry an error outside of the calls in which a rule replaces them, on the graph of the output."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.rules.contract import Walk

ELEMENTWISE = re.compile(  # of several operands, whose entries they do not mix
    r"Add|Sub|Rsub|Div|Pow|Lerp|Addcmul|Addcdiv|Where|Maximum|Minimum|Fmax|Fmin|Fmod|Remainder|Clamp(Max|Min)?|Atan2|"
    r"Hypot|Ldexp|Logaddexp2?|Copysign|Xlogy|Complex|Polar|Cat|Stack|Fill|Copy|CopySlices|MaskedFill|Put|"
    r"Index(Put|PutImpl|Add|Copy|Fill)|.*Scatter|ScatterAdd|ScatterReduce|.*BatchNorm.*|Native(Group|Layer)Norm|"
    r"FusedRmsNorm|PreluKernel|RreluWithNoise|WeightNormInterface|MseLoss|SmoothL1Loss|HuberLoss|FakeQuantize.*"
)
LOOKUPS = frozenset({"Embedding", "EmbeddingBag", "EmbeddingRenorm"})
ADDED = {"Addmm": 0, "Addmv": 0, "Addbmm": 0, "Baddbmm": 0, "Addr": 0}  # operands that are added to a product
BIASED = re.compile(r"Linear|MkldnnLinear|.*Conv.*")  # whose third operand is a bias
RECOMPUTED = ("CheckpointFunction",)
CUSTOM = re.compile(r"(.*)Backward\d*$")


@dataclass(frozen=True)
class Source:
    """What a node of a graph depends on.

    `data`: whether on an activity; else on parameters alone. `trains`: whether on a parameter that is trained. `weight`
    names the largest of the parameters, which has `size` entries.
    """

    data: bool = False
    trains: bool = False
    weight: str = ""
    size: int = 0


def check_weights(
    rule: str, output: Tensor, model: nn.Module, carried: type, trained: frozenset[int] | None = None
) -> None:
    """Raise MismatchError for a weight that carries an error otherwise than in a call that `carried` is the node of.

    That is a node of several differentiable operands, not elementwise, one of which depends on parameters alone, while
    another one depends on a trained parameter. `trained`: the ids of those that are; default: that require gradients.
    """
    parameters = {id(parameter): (name, parameter) for name, parameter in model.named_parameters()}
    if trained is None:
        trained = frozenset(key for key, (_, parameter) in parameters.items() if parameter.requires_grad)
    sources: dict[Any, Source] = {}
    for node in in_order(output.grad_fn):
        stem = _stem(node)
        if stem in RECOMPUTED:
            raise MismatchError(
                f"{rule} cannot carry an error through torch.utils.checkpoint, which computes that part again in the "
                "backward pass, with the weights themselves; leave checkpointing out"
            )
        variable = getattr(node, "variable", None)
        if variable is not None:
            name, parameter = parameters.get(id(variable), ("", None))
            known = parameter is not None
            sources[node] = Source(not known, id(variable) in trained, name, variable.numel() if known else 0)
            continue
        operands = [sources[parent] for parent, _ in node.next_functions if parent is not None]
        is_carried = isinstance(node, carried._backward_cls)  # pyright: ignore[reportAttributeAccessIssue]
        if not is_carried and len(operands) > 1 and (escaped := _escaped(node, stem, sources)):
            raise MismatchError(_message(rule, escaped, stem))
        largest = max(operands, key=lambda source: source.size, default=Source())
        sources[node] = Source(
            is_carried or stem in LOOKUPS or not operands or any(source.data for source in operands),
            any(source.trains for source in operands),
            largest.weight,
            largest.size,
        )


def in_order(root: Any) -> Iterator[Any]:
    """Yield the nodes of a graph, each once, after all that it depends on."""
    seen, waiting = set(), [(root, False)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            yield node
        elif node is not None and node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting.extend((parent, False) for parent, _ in node.next_functions)


def check_frozen_weights(rule: str, walk: Walk, mode: contextlib.AbstractContextManager[Any], carried: type) -> None:
    """Raise MismatchError for a weight, frozen or not, that carries an error otherwise, in a run made for that.

    The run has `mode` active and all parameters differentiable. It keeps no activities, and leaves buffers and random
    state as they were.
    """
    model = walk.model
    frozen = [p for p in model.parameters() if not p.requires_grad and (p.is_floating_point() or p.is_complex())]
    trained = frozenset(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with _kept_state(model), torch.autograd.graph.saved_tensors_hooks(_shape_of, _of_shape), mode:
            logits = walk.whole().logits
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    assert logits is not None
    check_weights(rule, logits, model, carried, trained)


def _shape_of(saved: Tensor) -> torch.Size:
    return saved.shape


def _of_shape(shape: torch.Size) -> Tensor:
    return torch.empty(shape, device="meta")


@contextlib.contextmanager
def _kept_state(model: nn.Module) -> Iterator[None]:
    """Put back buffers and random state afterwards."""
    found = ((module, name, buffer) for module in model.modules() for name, buffer in module._buffers.items())
    kept = [(module, name, buffer, buffer.clone()) for module, name, buffer in found if buffer is not None]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(sorted(devices, key=str)):
        try:
            yield
        finally:
            for module, name, buffer, before in kept:
                module._buffers[name] = buffer.copy_(before)


def _stem(node: Any) -> str:
    """Return the name of the operation that a node is the derivative of."""
    name = node.name().removeprefix("torch::autograd::")
    found = CUSTOM.match(name)
    return found[1] if found else name


def _escaped(node: Any, stem: str, sources: Mapping[Any, Source]) -> str | None:
    """Return the name of a parameter that carries an error in this node, if there is one."""
    if stem in LOOKUPS or ELEMENTWISE.fullmatch(stem):
        return None
    added = _added(stem)
    parents = [parent for place, (parent, _) in enumerate(node.next_functions) if place != added]
    factors = [sources[parent] for parent in parents if parent is not None]
    for place, weight in enumerate(factors):
        others = factors[:place] + factors[place + 1 :]
        if not weight.data and any(other.trains for other in others):
            return weight.weight if stem != "Mul" or _is_outer_product(node, factors) else None
    return None


def _added(stem: str) -> int | None:
    """Return the place of an operand that is added to what the others make: a bias, or an attention mask."""
    if stem.startswith("ScaledDotProduct"):
        return 3
    return 2 if BIASED.fullmatch(stem) else ADDED.get(stem)


def _is_outer_product(node: Any, factors: Iterable[Source]) -> bool:
    """Whether an activity is spread over the axes of a weight: (x[:, None, :] * weight).sum(2) is a product, too."""
    try:
        shapes = [saved.shape for saved in (node._saved_self, node._saved_other)]
    except (AttributeError, RuntimeError):  # of one that was changed in place since; its derivative says so
        return False
    whole = torch.broadcast_shapes(*shapes).numel()
    return any(source.data and shape.numel() < whole for source, shape in zip(factors, shapes, strict=False))


def _message(rule: str, name: str, stem: str) -> str:
    fix = "use such layers, or train by Backprop or a local rule"
    if stem == "CompiledFunction":
        fix = "leave torch.compile out"
    elif "parametrizations" in name or name.endswith(("weight_v", "weight_g", "_orig")):
        fix = "remove the parametrization, such as weight_norm or pruning"
    elif name.endswith("in_proj_weight"):
        fix = "only self-attention is covered, in newer torch: use nn.Linear for query, key and value"
    return (
        f"{rule} cannot replace {name}, which carries an error in {stem}: it covers F.linear and F.conv1d/2d/3d, "
        f"called with the parameter itself; {fix}"
    )
