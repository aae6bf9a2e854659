"""What training needs of a learner beyond its steps: logits, activities, and the same learner with another rule.

The only file of this folder that looks into a learner.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from infohebb.learner import Learner
from infohebb.learner.borders import check_activity, check_logits
from infohebb.learner.probing import evaluating
from infohebb.learner.selection import trainable
from infohebb.learner.walk import call
from infohebb.networks.plain.randomness import enter_unit
from infohebb.rules.contract import LearningRule


def count_samples(inputs: Any) -> int:
    """Return the number of rows of the first tensor in a batch's inputs."""
    leaves = tree_leaves(dict(inputs) if isinstance(inputs, Mapping) else inputs)
    return next(len(leaf) for leaf in leaves if isinstance(leaf, Tensor))


def logits_of(learner: Learner, inputs: Any) -> Tensor:
    """Return the model's logits (m × outputs) for a batch, picked out of its output as the learner picks them."""
    return check_logits(call(learner.model, inputs), learner._plan.pick, count_samples(inputs))


@torch.no_grad()
def activities_of(learner: Learner, inputs: Any) -> dict[str, Tensor]:
    """Return each unit's activity for a batch, by the unit's name, in eval mode; each module's mode is restored."""
    found, handles, plan = {}, [], learner._plan

    def keep(name: str) -> Any:
        def kept(module: nn.Module, args: Any, output: Any) -> None:
            del module, args
            found[name] = check_activity(name, output, plan.activities.get(name), count_samples(inputs)).clone()

        return kept

    try:
        for bounds in plan.selection.units:
            last = learner.model.get_submodule(bounds.last)
            handles.append(last.register_forward_hook(keep(bounds.unit.name)))
        with evaluating(learner.model):
            call(learner.model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def copy_with(learner: Learner, rule: LearningRule | None = None) -> Learner:
    """Return a copy of a learner and its model, by a copy of another rule if one is given, not compiled.

    Raises the errors of that rule's `setup`.
    """
    twin = copy.deepcopy(learner)
    twin._compiled = None
    if rule is not None:
        twin.rule = twin._plan.rule = copy.deepcopy(rule)
        head = trainable(twin.model, twin._plan.selection.head) or list(twin.model.parameters())[:1]
        twin.rule.reset()
        twin.rule.setup(twin.units, head, twin.classes)
        twin.rule.to(head[0].device)
    return twin


@contextlib.contextmanager
def drawing_by_unit(learner: Learner) -> Iterator[None]:
    """Have each unit of the model draw by its name, for rules too that run the network as a whole."""
    handles = []
    try:
        for bounds in learner._plan.selection.units:
            first = learner.model.get_submodule(bounds.first)
            handles.append(first.register_forward_pre_hook(lambda *_, name=bounds.unit.name: enter_unit(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()
