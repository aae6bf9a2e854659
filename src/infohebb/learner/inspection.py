"""What a network answers, and what its units do, as a learner picks both out of outputs."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from infohebb.learner.borders import check_activity, check_logits
from infohebb.learner.plan import Plan, call, stacked_in
from infohebb.learner.probing import evaluating


def count_samples(inputs: Any) -> int:
    """Return the number of rows of the first tensor in a batch's inputs."""
    return next(len(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))


def logits_of(plan: Plan, inputs: Any) -> Tensor:
    """Return the logits (m × outputs), of stacked networks (m × networks × outputs)."""
    return check_logits(call(plan.model, inputs), plan.pick, count_samples(inputs), stacked=stacked_in(plan.model))


@torch.no_grad()
def activities_of(plan: Plan, inputs: Any) -> dict[str, Tensor]:
    """Return each unit's activity by its name, in eval mode; each module's mode is restored."""
    found: dict[str, Tensor] = {}
    handles = []
    try:
        for bounds in plan.selection.units:
            keep = partial(_keep, found, bounds.unit.name, plan, count_samples(inputs))
            handles.append(plan.model.get_submodule(bounds.last).register_forward_hook(keep))
        with evaluating(plan.model):
            call(plan.model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _keep(
    found: dict[str, Tensor], name: str, plan: Plan, samples: int, module: nn.Module, args: Any, output: Any
) -> None:
    del module, args
    found[name] = check_activity(name, output, plan.activities.get(name), samples).clone()
