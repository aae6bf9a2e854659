"""Forwards that a step replaces: those of compiled modules, and of the divisive norms that follow units."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from infohebb.errors import MismatchError
from infohebb.learner.plan import Plan
from infohebb.learner.selection import NORMS
from infohebb.networks.unit import Unit


@contextlib.contextmanager
def replaced(forwards: list[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Have modules run other forwards; in the end each has its own again."""
    before = [(module, vars(module).get("forward")) for module, _ in forwards]
    try:
        for module, forward in forwards:
            vars(module)["forward"] = forward
        yield
    finally:
        for module, forward in before:
            vars(module).pop("forward", None)
            if forward is not None:
                vars(module)["forward"] = forward


class FollowingNorms:
    """The divisive norms after units: each returns what the rule has computed already, and none is overlooked.

    With `check`, MismatchError is raised where a norm that is known to follow no unit receives an activity.
    """

    def __init__(self, plan: Plan, *, check: bool):
        units = [bounds.unit for bounds in plan.selection.units]
        self._norms = {id(unit.divisive_norm): unit.divisive_norm for unit in units if unit.divisive_norm is not None}
        self._ready: dict[int, tuple[Tensor, int, Tensor]] = {}  # by the norm: input, its version, output
        self._unknown = self._outside(plan) if check else []
        self._activities: list[tuple[str, list[tuple[Tensor, int]]]] = []

    def _outside(self, plan: Plan) -> list[nn.Module]:
        tops = [plan.model.get_submodule(name) for bounds in plan.selection.units for name in bounds.modules]
        inside = {id(module) for top in tops for module in top.modules()}
        norms = [module for module in plan.model.modules() if isinstance(module, NORMS)]
        return [norm for norm in norms if id(norm) not in self._norms.keys() | inside]

    def expect(self, unit: Unit, onwards: Any, normalised: Tensor | None) -> None:
        """Take what goes on from a unit, and what the rule has made of it."""
        if self._unknown:
            tensors = [leaf for leaf in tree_leaves(onwards) if isinstance(leaf, Tensor)]
            self._activities.append((unit.name, [(tensor, tensor._version) for tensor in tensors]))
        if normalised is not None and isinstance(onwards, Tensor):
            self._ready[id(unit.divisive_norm)] = (onwards, onwards._version, normalised.to(onwards.dtype))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Replace forwards and watch unknown norms inside the context."""
        handles = [norm.register_forward_pre_hook(self._met_unknown) for norm in self._unknown]
        try:
            with replaced([(norm, self._forward_of(norm)) for norm in self._norms.values()]):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _forward_of(self, norm: nn.Module) -> Callable[[Tensor], Tensor]:
        forward = norm.forward

        def normalise(activity: Tensor) -> Tensor:
            received, version, normalised = self._ready.pop(id(norm), (None, 0, activity))
            untouched = activity is received and activity._version == version  # by no operation in place
            return normalised if untouched else forward(activity)

        return normalise

    def _met_unknown(self, module: nn.Module, args: Any) -> None:
        del module
        received = next((leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)), None)
        for name, activities in self._activities:
            if received is not None and any(holds(received, *activity) for activity in activities):
                raise MismatchError(
                    f"a divisive norm follows unit {name}, whose groups the rule should take: give "
                    "Learner(..., example=x), a batch or the shape of one sample"
                )


def holds(received: Tensor, activity: Tensor, version: int) -> bool:
    """Whether a tensor is an activity, or a view of all of it, that nothing has changed in place since that version."""
    same = received.untyped_storage()._cdata == activity.untyped_storage()._cdata
    return same and received.numel() == activity.numel() and activity._version == version
