"""One forward pass of a learner's network by hooks of its own: what the learner's record is checked against."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from infohebb.learner.borders import check_activity
from infohebb.learner.bounds import Bounds
from infohebb.learner.inspection import count_samples
from infohebb.learner.layers import channel_axis, is_weight_layer
from infohebb.learner.records import RECORDED
from infohebb.networks.plain.randomness import draws, enter_unit
from infohebb.testing.contract.cases import Case
from infohebb.training.seeding import seeded

SMALL = 1e-9  # of the largest singular value: rounding


@dataclass
class Trace:
    """One unit on a graph of its own: its weight layers, what each received and gave, and the unit's activity.

    `activities` holds one activity per call of the unit; their channels lie along `axis`.
    """

    layers: dict[str, nn.Module]
    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    activities: list[Tensor] = field(default_factory=list)
    axis: int = 1

    def only_layer(self) -> tuple[str, Tensor, Tensor] | None:
        """Return the name, input and preactivation of the unit's weight layer, if it is one Linear or convolution.

        None for a unit that has several, or was called several times.
        """
        names = [name for name, module in self.layers.items() if isinstance(module, RECORDED)]
        if len(self.layers) != 1 or not names or len(self.activities) != 1 or len(self.outputs[names[0]]) != 1:
            return None
        return names[0], self.inputs[names[0]][0], self.outputs[names[0]][0]


def trace_units(case: Case, seed: int = 2000) -> dict[str, Trace]:
    """Run the network once more, on what the last step called it with, from the buffers of before that.

    Returns each unit's trace, by the unit's name.
    """
    if case.passed is None:
        case.step()
    assert case.passed is not None
    (args, kwargs), model, traces, handles = case.passed, case.learner.model, {}, []
    samples = count_samples((args, kwargs))
    try:
        for bounds in case.plan.selection.units:
            trace = Trace(weight_layers(case, bounds))
            traces[bounds.unit.name] = trace
            first, last = model.get_submodule(bounds.first), model.get_submodule(bounds.last)
            handles.append(first.register_forward_pre_hook(_entering(bounds.unit.name), with_kwargs=True))
            for name, layer in trace.layers.items():
                handles.append(layer.register_forward_hook(_keeping(name, trace)))
            handles.append(last.register_forward_hook(_leaving(case, bounds, trace, samples)))
        with buffers_of(model, case.buffers), seeded(seed), draws(), torch.enable_grad():
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return traces


@contextlib.contextmanager
def received_in(case: Case) -> Iterator[dict[str, Tensor]]:
    """Collect what each Linear and convolution of the network receives inside, row after row, by its name."""
    received: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        del module
        received[name] = torch.cat([*([received[name]] if name in received else []), args[0].detach()])

    layers = [(name, each) for name, each in case.learner.model.named_modules() if isinstance(each, RECORDED)]
    handles = [module.register_forward_pre_hook(partial(keep, name)) for name, module in layers]
    try:
        yield received
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def buffers_of(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put copies of other values in the place of a model's buffers, by their names, and in the end those back."""
    there = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], name) for name in values]
    before = [owner._buffers[last] for owner, last, _ in there]
    try:
        for owner, last, name in there:
            owner._buffers[last] = values[name].clone()
        yield
    finally:
        for (owner, last, _), buffer in zip(there, before, strict=True):
            owner._buffers[last] = buffer


def weight_layers(case: Case, bounds: Bounds) -> dict[str, nn.Module]:
    """Return a unit's weight layers by name; what lies inside one, such as a parametrization, is part of it."""
    found: dict[str, nn.Module] = {}
    for top in bounds.modules:
        for own, module in case.learner.model.get_submodule(top).named_modules(prefix=top):
            inside = any(own.startswith(f"{other}.") for other in found)
            if not inside and (isinstance(module, RECORDED) or is_weight_layer(module)):
                found[own] = module
    return found


def _entering(unit: str) -> Callable[..., Any]:
    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        del module
        enter_unit(unit)
        return tree_map_only(Tensor, Tensor.detach, args), tree_map_only(Tensor, Tensor.detach, kwargs)

    return enter


def _keeping(name: str, trace: Trace) -> Callable[..., Any]:
    def keep(module: nn.Module, args: Any, output: Any) -> Any:
        del module
        if not isinstance(output, Tensor):
            return output
        output = output if output.requires_grad else output.requires_grad_()
        trace.inputs.setdefault(name, []).append(args[0].detach().clone())
        trace.outputs.setdefault(name, []).append(output)
        return output.clone()  # what follows may work in place

    return keep


def _leaving(case: Case, bounds: Bounds, trace: Trace, samples: int) -> Callable[..., Any]:
    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        del module, args
        name = bounds.unit.name
        activity = check_activity(name, output, case.plan.activities.get(name), samples)
        modules = [case.learner.model.get_submodule(each) for each in bounds.modules]
        trace.axis = channel_axis(modules, activity)
        trace.activities.append(activity)
        return tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), output)

    return leave
