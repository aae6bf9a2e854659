"""What one run of an example shows of a network: shapes of activities, and which divisive norm follows a unit."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from infohebb.errors import MismatchError, is_whole
from infohebb.learner.borders import check_activity, check_logits
from infohebb.learner.bounds import Bounds
from infohebb.learner.forwards import holds
from infohebb.learner.layers import channel_axis
from infohebb.learner.plan import Plan, call, stacked_in
from infohebb.learner.selection import NORMS
from infohebb.networks.plain.randomness import restored_random_state
from infohebb.networks.unit import Unit

SAMPLES = 2  # of an example that is a shape


def observe(plan: Plan, example: Any) -> None:
    """Run the model on a batch, or on zeros of the shape of one sample, in eval mode and without gradients.

    Fills the units' shapes, their divisive norms and the number of classes. Leaves modes and random state as they were.
    """
    inputs = _as_batch(plan.model, example)
    first = next((leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)), None)
    if first is None or first.dim() == 0:
        raise MismatchError(
            f"example is a {type(example).__name__}: give a batch of inputs as tensors, or the shape of one sample"
        )
    activities: list[tuple[Unit, Tensor, int]] = []  # with the version that each had as it left its unit
    handles = []
    try:
        for bounds in plan.selection.units:
            watch = partial(_watch, plan, bounds, len(first), activities)
            size = partial(_see_size, plan, bounds, len(first))
            handles.append(plan.model.get_submodule(bounds.last).register_forward_hook(watch))
            handles.append(plan.model.get_submodule(bounds.output).register_forward_hook(size))
        norms = [module for module in plan.model.modules() if isinstance(module, NORMS)]
        handles += [norm.register_forward_pre_hook(partial(_see_norm, activities)) for norm in norms]
        with evaluating(plan.model), torch.no_grad(), restored_random_state():
            logits = _run(plan, inputs, first)
    finally:
        for handle in handles:
            handle.remove()
    plan.classes = None if logits is None else logits.shape[-1]


def _run(plan: Plan, inputs: Any, first: Tensor) -> Tensor | None:
    """Return the logits of the example; None for a network without a head."""
    try:
        output = call(plan.model, inputs)
    except MismatchError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:120]
        raise MismatchError(
            f"example {first.dtype} {tuple(first.shape)} does not run through the model ({type(error).__name__}: "
            f"{words}); give a batch of real inputs"
        ) from error
    stacked = stacked_in(plan.model)
    return check_logits(output, plan.pick, len(first), stacked=stacked) if plan.selection.head else None


def _as_batch(model: nn.Module, example: Any) -> Any:
    if isinstance(example, (tuple, list, torch.Size)) and example and all(is_whole(length) for length in example):
        like = next(iter(model.parameters()))
        return torch.zeros(SAMPLES, *example, device=like.device, dtype=like.dtype)
    return example


def _watch(
    plan: Plan,
    bounds: Bounds,
    samples: int,
    activities: list[tuple[Unit, Tensor, int]],
    module: nn.Module,
    args: Any,
    output: Any,
) -> None:
    """Note the shape of a unit's activity."""
    del module, args
    unit = bounds.unit
    z = check_activity(unit.name, output, plan.activities.get(unit.name), samples)
    axis = channel_axis([plan.model.get_submodule(name) for name in bounds.modules], z) if unit.stacked is None else 1
    unit.shape = tuple(z.movedim(axis, 1).shape[1:])
    activities.append((unit, z, z._version))


def _see_size(plan: Plan, bounds: Bounds, samples: int, module: nn.Module, args: Any, output: Any) -> None:
    """Note the shape of what a unit sends on."""
    del module, args
    choose = plan.activities.get(bounds.unit.name) if bounds.output == bounds.last else None
    bounds.unit.output_shape = tuple(check_activity(bounds.unit.name, output, choose, samples).shape[1:])


def _see_norm(activities: list[tuple[Unit, Tensor, int]], module: nn.Module, args: Sequence[Any]) -> None:
    """Note the divisive norm that follows a unit."""
    for unit, z, version in activities if args and isinstance(args[0], Tensor) else ():
        if holds(args[0], z, version):
            unit.divisive_norm = module


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and each of its modules back into its own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
