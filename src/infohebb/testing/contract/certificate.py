"""How local each unit's weight changes are, from the derivative of its activity by its preactivation."""

from typing import Literal

import torch
from torch import Tensor

from infohebb.learner.layers import channel_axis
from infohebb.testing.contract.cases import Case, splits, submodule
from infohebb.testing.contract.tracing import Trace, trace_units

Level = Literal["synapse", "normalisation group", "unit"]


def levels_of(case: Case) -> dict[str, Level]:
    """Return the level of each unit, by its name."""
    return {name: _level(case, trace) for name, trace in trace_units(case).items()}


def _level(case: Case, trace: Trace) -> Level:
    only = trace.only_layer()
    if only is None:
        return "unit"
    name, _, h = only
    axis = channel_axis([submodule(case, name)], h)
    return "synapse" if depends_on_itself_only(trace.activities[0], h, trace.axis, axis) else "normalisation group"


def depends_on_itself_only(z: Tensor, h: Tensor, axis: int, h_axis: int) -> bool:
    """Whether entry i of an activity along its axis depends on entry i of a preactivation along its own, and no other.

    Probed: masks of entries such that each two are told apart are sent back, with random weights.
    """
    count = z.shape[axis]
    if h.shape[h_axis] != count:
        return False
    for chosen in splits(torch.arange(count)):
        weights = torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(0)).to(z.device)
        weights.movedim(axis, 0)[~chosen] = 0
        (error,) = torch.autograd.grad(z, h, weights, retain_graph=True, allow_unused=True)
        if error is None:
            return False
        if bool((error.movedim(h_axis, 0)[~chosen] != 0).any()):
            return False
    return True
