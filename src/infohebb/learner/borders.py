"""What is checked where an activity leaves its unit, and the logits the network."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils._pytree import tree_leaves

from infohebb.errors import MismatchError
from infohebb.learner.choose import Choose
from infohebb.learner.layers import channel_axis
from infohebb.networks.unit import Unit
from infohebb.rules.contract import LocalError


def is_autocast_on(device: str) -> bool:
    """Whether autocast is on for that kind of device."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def without_autocast(device: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which autocast is off on that kind of device, if it is on."""
    return torch.autocast(device, enabled=False) if is_autocast_on(device) else contextlib.nullcontext()


def check_activity(unit: str, output: Any, choose: Choose | None, samples: int) -> Tensor:
    """Return the activity in a unit's output: what `choose` picks, or else its first tensor.

    Raises MismatchError for no floating-point tensor, and for one whose first axis is not the batch.
    """
    if choose is not None:
        z = choose(output)
    else:
        z = output if isinstance(output, Tensor) else next((t for t in tree_leaves(output) if _is_floating(t)), None)
    fix = f"give activity={{{unit!r}: function}} that picks a tensor (samples, ...) out of its output"
    if not isinstance(z, Tensor) or not z.is_floating_point():
        what = _kind(output if z is None else z)
        raise MismatchError(f"unit {unit} returns {what}, not an activity of floating-point numbers; {fix}")
    if z.dim() < 2 or z.shape[0] != samples:
        raise MismatchError(f"unit {unit} returns {tuple(z.shape)} for a batch of {samples} samples; {fix}")
    return z


def seen_by_rule(modules: list[nn.Module], unit: Unit, z: Tensor) -> tuple[Tensor, int]:
    """Return an activity as rules see it, channels on axis 1 and float32 at least, and the axis of its channels."""
    detached = z.detach()
    detached = detached if detached.dtype == torch.float64 else detached.float()
    several = z.dim() > 2 and unit.stacked is None
    axis = channel_axis(modules, z) if several else 1
    return (detached if axis == 1 else detached.movedim(axis, 1)), axis


def with_terms(before: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a unit's terms; of one that is called several times, their sums."""
    return {term: value + before[term] if term in before else value for term, value in terms.items()}


def check_error(rule: str, unit: str, found: object, *, stacked: bool = False) -> None:
    """Raise MismatchError for what a rule's `error` must not return; of `stacked` networks terms have a number each."""
    if not isinstance(found, LocalError) or not isinstance(found.error, Tensor):
        raise MismatchError(f"{rule}.error gave unit {unit} a {type(found).__name__}; return a LocalError, or None")
    if not found.error.is_floating_point():
        raise MismatchError(f"{rule}.error gave unit {unit} an error of {found.error.dtype}; it must be floating-point")
    terms = found.terms if isinstance(found.terms, Mapping) else {"terms": found.terms}
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.dim() > stacked:
            raise MismatchError(f"{rule}.error gave unit {unit} {name}={value!r}; terms are 0-dim tensors by name")


def check_norm_axis(unit: Unit, axis: int, z: Tensor) -> None:
    """Raise MismatchError if the groups of the divisive norm that follows run along another axis than the channels."""
    along = getattr(unit.divisive_norm, "dim", axis)
    if z.dim() > 2 and along % z.dim() != axis:
        raise MismatchError(
            f"unit {unit.name} has its channels along axis {axis} of {tuple(z.shape)}, but the divisive norm after it "
            f"groups along axis {along}; give DivisiveNorm(dim={axis if axis == 1 else -1})"
        )


def check_logits(
    output: Any, pick: Choose | None, samples: int, classes: int | None = None, stacked: int | None = None
) -> Tensor:
    """Return the logits (m × outputs), of stacked networks (m × networks × outputs), in the network's output.

    Raises MismatchError.
    """
    logits = output if pick is None else pick(output)
    if not isinstance(logits, Tensor):
        raise MismatchError(
            f"the model returned {_kind(logits)}, not logits; give output=function that picks them, such as "
            "output=lambda out: out['logits']"
        )
    if logits.dim() != (2 if stacked is None else 3) or len(logits) != samples:
        raise MismatchError(
            f"the model returned {tuple(logits.shape)} for a batch of {samples} samples; logits are "
            f"({samples}, outputs): give output=function that makes them so"
        )
    if classes is not None and logits.shape[-1] != classes:
        raise MismatchError(f"the model gives {logits.shape[-1]} outputs, not classes={classes}; give the same number")
    return logits


def check_graph(place: str, output: Tensor, own: Sequence[Tensor], named: Mapping[str, Parameter]) -> None:
    """Raise MismatchError if an output depends on a parameter that is not among the unit's own."""
    allowed = {id(parameter) for parameter in own}
    names = {id(parameter): name for name, parameter in named.items()}
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) in names and id(variable) not in allowed:
            raise MismatchError(
                f"the graph of {place} reaches {names[id(variable)]}, which belongs elsewhere: a feature kept on self, "
                "or a weight used twice? Detach what crosses the border, or make both one unit"
            )
        waiting.extend(parent for parent, _ in node.next_functions)


def _is_floating(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _kind(value: object) -> str:
    return f"a {value.dtype} tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"
