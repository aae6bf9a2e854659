"""One forward pass of a learner's network by hooks of its own: what the learner's record is checked against."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from infohebb.learner.borders import check_activity
from infohebb.learner.bounds import Bounds
from infohebb.learner.layers import channel_axis, is_weight_layer
from infohebb.learner.plan import call
from infohebb.learner.records import RECORDED
from infohebb.networks.plain.randomness import draws, enter_unit
from infohebb.testing.contract.cases import Case
from infohebb.training.seeding import seeded


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
    """Run the network once, on what the last step was given; return each unit's trace, by the unit's name."""
    model, traces, handles = case.learner.model, {}, []
    inputs, targets = case.given or case.batch()
    try:
        for bounds in case.plan.selection.units:
            trace = Trace(weight_layers(case, bounds))
            traces[bounds.unit.name] = trace
            first, last = model.get_submodule(bounds.first), model.get_submodule(bounds.last)
            handles.append(first.register_forward_pre_hook(_entering(bounds.unit.name), with_kwargs=True))
            for name, layer in trace.layers.items():
                handles.append(layer.register_forward_hook(_keeping(name, trace)))
            handles.append(last.register_forward_hook(_leaving(case, bounds, trace, len(targets))))
        with seeded(seed), draws(), torch.enable_grad():
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return traces


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
