"""One pass of a batch through a network whose units are cut off from each other, by hooks that live as long as it."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils._pytree import tree_leaves, tree_map_only

from infohebb.errors import MismatchError
from infohebb.functional.products import Precision
from infohebb.learner.borders import (
    check_activity,
    check_error,
    check_graph,
    check_logits,
    check_norm_axis,
    seen_by_rule,
    with_terms,
    without_autocast,
)
from infohebb.learner.bounds import Bounds, trainable
from infohebb.learner.forwards import FollowingNorms, replaced
from infohebb.learner.neurons import Preactivation, check_linear, check_product, layer_gradients
from infohebb.learner.plan import Plan, call, follows_frozen_units, stacked_in
from infohebb.learner.senders import Given, Sender
from infohebb.networks.plain.randomness import draws, enter_unit
from infohebb.networks.unit import Unit
from infohebb.rules.contract import LocalError, Neurons, Output

Learn = Callable[[Unit, Tensor], LocalError | None]
LearnSynapses = Callable[[Unit, Neurons], Tensor | None]
Leave = Callable[[Bounds, list[Parameter], Any], Any]  # a unit, what it trains, what it returned -> what goes on


class Pass:
    """A batch on its way: what `LearningRule.backward` is given as its walk.

    `inputs` is a tensor, a tuple of arguments, or a mapping of keyword arguments, of `samples` samples. `sender` takes
    the errors. With `check` no graph may cross a unit's border: MismatchError names the unit. `onset` tells whether the
    samples have just come.
    """

    def __init__(
        self, plan: Plan, inputs: Any, samples: int, sender: Sender, *, check: bool = False, onset: bool = True
    ):
        self.plan, self.inputs, self.samples, self.sender, self.check = plan, inputs, samples, sender, check
        self.model, self.onset, self.head_modules = plan.model, onset, plan.selection.head
        self.units = [bounds.unit for bounds in plan.selection.units]
        self.classes, self.has_head = plan.classes, bool(plan.selection.head)
        self.terms: dict[str, Mapping[str, Tensor]] = {}
        self.parameters = [bounds.parameters(plan.model) for bounds in plan.selection.units]
        self.head = trainable(plan.model, plan.selection.head)
        self._uncalled = {bounds.unit.name for bounds in plan.selection.units}
        self._origins: dict[int, tuple[Tensor, list[Parameter], str]] = {}  # of outputs that may be sent an error
        self._norms = FollowingNorms(plan, check=check)
        self._owns = follows_frozen_units(plan.rule)
        self._features: Tensor | None = None
        self._in_head = False
        self._open: list[tuple[Bounds, bool]] = []  # units that are running, with the grad mode outside of each
        self._once = False  # whether a unit may be called only once
        self._graphs = True  # whether units are run with one
        self._given: set[str] = set()  # layers whose gradient the rule has computed itself

    def restrict(self, rows: slice) -> None:
        """Take only these samples of the batch."""
        self.inputs = tree_map_only(Tensor, lambda tensor: tensor[rows], self.inputs)
        self.samples = len(range(self.samples)[rows])

    def local(self, learn: Learn, *, once: bool = False) -> Output:
        """Run the network; each unit learns from `learn(unit, z)` before the next one runs."""
        self._once = once

        def leave(bounds: Bounds, parameters: list[Parameter], output: Any) -> Any:
            z = self._activity(bounds.unit, output)
            kept = self.sender.keeps_graphs  # in-place operations further up must not harm graphs that live on
            onwards = _cut(output, clone=kept)
            if parameters:
                self._check(bounds.unit.name, parameters, z)
            if parameters or self._owns:
                normalised = self._learn(bounds, parameters, z, learn)
                if z is output:  # a norm follows what the unit returns, not what is picked out of it
                    self._norms.expect(bounds.unit, onwards, None if kept else normalised)
            return onwards

        with self._hooks(leave, at_output=False), torch.no_grad():
            return self._run(labels=self.has_head)

    def cut(self) -> tuple[Output, list[tuple[Unit, Tensor]]]:
        """Run the network with each unit on a graph of its own; return its output, and each unit's output."""
        outputs: list[tuple[Unit, Tensor]] = []

        def leave(bounds: Bounds, parameters: list[Parameter], output: Any) -> Any:
            z = self._activity(bounds.unit, output)
            if parameters:
                self._check(bounds.unit.name, parameters, z)
                outputs.append((bounds.unit, z))
                self._origins[id(z)] = (z, parameters, bounds.unit.name)
            return _cut(output, clone=True)

        with self._hooks(leave, at_output=True), torch.no_grad():
            return self._run(labels=True), outputs

    def frozen(self) -> Output:
        """Run the network without graphs below the head."""
        with self._hooks(None, at_output=False), torch.no_grad():
            return self._run(labels=self.has_head)

    def whole(self) -> Output:
        """Run the network on one graph."""
        torch.clear_autocast_cache()  # it may hold weights that were cast without a graph
        handles = []
        try:
            for bounds in self.plan.selection.units:
                enter = partial(_draw_for, bounds.unit.name)
                handles.append(self.plan.model.get_submodule(bounds.first).register_forward_pre_hook(enter))
            with self._compiled(), draws(), torch.enable_grad():
                logits = self._logits(call(self.plan.model, self.inputs))
        finally:
            for handle in handles:
                handle.remove()
        self._origins[id(logits)] = (logits, trainable(self.plan.model, [""]), "the network's output")
        return Output(logits, None)

    def send(self, output: Tensor, error: Tensor, value: Tensor | None = None) -> None:
        """Send dL/d(output) back to the parameters that it depends on; `value` is L."""
        _, parameters, place = self._origins.pop(id(output))
        if parameters:
            self._check(place, parameters, output)
            self.sender.send(output, error, parameters, value, place)

    def neurons(self, learn: LearnSynapses) -> Output:
        """Run the network without graphs below the head; each unit learns from its synapses by `give`.

        Frozen units are shown to the rule too: what it keeps of the stream goes on.
        """
        hooks = {unit.name: Preactivation(self.model, unit, self.plan.linear[unit.name]) for unit in self.units}
        self._graphs, self._once = False, True

        def leave(bounds: Bounds, parameters: list[Parameter], output: Any) -> Any:
            del parameters
            found = self._activity(bounds.unit, output)
            neurons = hooks[bounds.unit.name].neurons(found)
            onwards = _cut(output)
            with without_autocast(found.device.type):
                normalised = learn(bounds.unit, neurons)
            if found is output:  # a norm follows what the unit returns, not what is picked out of it
                self._norms.expect(bounds.unit, onwards, normalised)
            return onwards

        handles = [hook.register() for hook in hooks.values()]
        try:
            with self._hooks(leave, at_output=False), torch.no_grad():
                return self._run(labels=self.has_head)
        finally:
            for handle in handles:
                handle.remove()

    def give(
        self,
        layer: str,
        pre: Tensor,
        error: Tensor,
        *,
        third_factor: Tensor | None = None,
        post: Tensor | None = None,
        bias: bool = True,
        value: Tensor | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Fill the gradients of a weight layer: error × pre, summed over rows, and for its bias the error alone."""
        module = check_linear(layer, self.model.get_submodule(layer))
        pre, error = check_product(layer, module, pre, error)
        if layer in self._given:
            raise MismatchError(f"{layer} is given gradients twice in one step; give all of its rows at once")
        self._given.add(layer)
        local = None if post is None else LocalError(third_factor, post, error)
        self.sender.see(layer, Given(pre, error, local, bias))
        for parameter, gradient in layer_gradients(module, pre, error, bias=bias, precision=precision):
            self.sender.give(parameter, gradient, value)
            value = None  # once is enough

    def _learn(self, bounds: Bounds, parameters: list[Parameter], z: Tensor, learn: Learn) -> Tensor | None:
        """Hand the activity to the rule, channels on axis 1, and its error to the unit's own derivative.

        Returns the divisively normalised activity if the rule has it.
        """
        unit = bounds.unit
        detached, axis = seen_by_rule([self.plan.model.get_submodule(n) for n in bounds.modules], unit, z)
        check_norm_axis(unit, axis, z)
        unit.shape = tuple(detached.shape[1:])
        with torch.no_grad(), without_autocast(z.device.type):
            found = learn(unit, detached)
        if found is None:
            return None
        check_error(type(self.plan.rule).__name__, unit.name, found, stacked=unit.stacked is not None)
        if found.error.shape != detached.shape:
            raise MismatchError(
                f"{type(self.plan.rule).__name__} gave unit {unit.name} an error of shape {tuple(found.error.shape)} "
                f"for an activity of {tuple(detached.shape)}; `error` must have the shape of z"
            )
        if found.terms:
            self.terms[unit.name] = with_terms(self.terms.get(unit.name, {}), found.terms)
        self.sender.note(unit.name, found)
        for name, gradient in found.gradients.items():
            self.sender.give(self.plan.rule.get_parameter(name), gradient)
        error, normalised = (
            each if each is None or axis == 1 else each.movedim(1, axis) for each in (found.error, found.normalised)
        )
        value = found.terms.get("objective")
        value = value if value is None or unit.stacked is None else value.sum()
        del found  # what it alone holds is free before the unit's derivative allocates
        assert error is not None
        if parameters:
            self.sender.send(z, error, parameters, value, unit.name)
        return normalised

    def _check(self, place: str, parameters: Sequence[Parameter], output: Tensor) -> None:
        if not output.requires_grad:
            raise MismatchError(
                f"the output of {place} needs no gradient, though it has parameters to train; does its forward detach "
                "it or run under no_grad? Freeze it with requires_grad_(False) if that is meant"
            )
        if self.check:
            own = [*parameters, *self.plan.rule.parameters()]
            check_graph(place, output, own, dict(self.plan.model.named_parameters()))

    def _activity(self, unit: Unit, output: Any) -> Tensor:
        with torch.enable_grad():  # what picks the activity out of the output belongs to the unit
            return check_activity(unit.name, output, self.plan.activities.get(unit.name), self.samples)

    def _logits(self, output: Any) -> Tensor:
        return check_logits(output, self.plan.pick, self.samples, self.classes, stacked_in(self.model))

    def _compiled(self) -> contextlib.AbstractContextManager[None]:
        forwards = self.plan.compiled.items()
        return replaced([(self.plan.model.get_submodule(name), forward) for name, forward in forwards])

    def _run(self, *, labels: bool) -> Output:
        """Run the model, and check its logits if a label loss is taken of them."""
        output = call(self.plan.model, self.inputs)
        if self._open:
            bounds, _ = self._open[-1]
            raise MismatchError(
                f"unit {bounds.unit.name} began, but its last module {bounds.last} was not called; end the unit at a "
                "module that the model's forward always calls"
            )
        if self._uncalled:
            names = ", ".join(sorted(self._uncalled)[:3])
            raise MismatchError(f"unit {names} was not called by the model's forward; leave it out of units")
        if self.has_head and not self._in_head:
            raise MismatchError(f"the head {', '.join(self.plan.selection.head)} was not called by the model's forward")
        if not labels:
            return Output(None, self._features)
        logits = self._logits(output)
        self._origins[id(logits)] = (logits, self.head, "the head")
        return Output(logits, self._features)

    @contextlib.contextmanager
    def _hooks(self, leave: Leave | None, *, at_output: bool) -> Iterator[None]:
        """Hooks on units and head, and compiled forwards; grad mode and modules are as before in the end."""
        before, handles, model = torch.is_grad_enabled(), [], self.plan.model
        torch.clear_autocast_cache()  # it may hold weights that were cast without a graph
        try:
            for bounds in self.plan.selection.units:
                first = model.get_submodule(bounds.first)
                last = model.get_submodule(bounds.output if at_output else bounds.last)
                enter, leaving = self._entering(bounds, leave), self._leaving(bounds, leave)
                handles.append(first.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
                handles.append(last.register_forward_hook(leaving, always_call=True))
            for name in self.plan.selection.head:
                module = model.get_submodule(name)
                handles.append(module.register_forward_pre_hook(self._begin_head, prepend=True, with_kwargs=True))
            with self._compiled(), self._norms.watched(), draws():
                yield
        finally:
            for handle in handles:
                handle.remove()
            torch.set_grad_enabled(before)

    def _entering(self, bounds: Bounds, leave: Leave | None) -> Callable[..., Any]:
        name = bounds.unit.name

        def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
            del module
            if self._in_head:
                raise MismatchError(
                    f"unit {name} was called after the head {self.plan.selection.head[0]}; "
                    "units come first: name another head=, or leave the unit out"
                )
            if self._once and name not in self._uncalled:
                raise MismatchError(
                    f"unit {name} was called twice in one step, and {type(self.plan.rule).__name__} keeps something "
                    "of each step; let the model call it once"
                )
            self._uncalled.discard(name)
            enter_unit(name)
            if leave is not None:
                self._open.append((bounds, torch.is_grad_enabled()))
                torch.set_grad_enabled(self._graphs)
            return _cut(args), _cut(kwargs)

        return enter

    def _leaving(self, bounds: Bounds, leave: Leave | None) -> Callable[..., Any]:
        def left(module: nn.Module, args: Any, output: Any) -> Any:
            del module, args
            if leave is None or not self._open or self._open[-1][0] is not bounds:
                return output  # of a module that several units share, such as an activation
            _, before = self._open.pop()
            torch.set_grad_enabled(False)
            try:
                if output is None and sys.exc_info()[0] is not None:  # an exception is on its way
                    return None
                return leave(bounds, self.parameters[bounds.unit.place], output)
            finally:
                torch.set_grad_enabled(before)
                torch.clear_autocast_cache()  # the graphs of the weights cast in this unit are gone

        return left

    def _begin_head(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        del module
        if self._in_head:
            return None
        self._in_head = True
        torch.set_grad_enabled(True)
        args, kwargs = _cut(args), _cut(kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._features = tensors[0] if tensors else None
        return args, kwargs


def _draw_for(unit: str, module: nn.Module, args: Any) -> None:
    """Have dropout draw the numbers of that unit, as it does where units are cut off."""
    del module, args
    enter_unit(unit)


def _cut(values: Any, *, clone: bool = False) -> Any:
    """Return the same without graphs: detached tensors, or copies."""
    if isinstance(values, Tensor):
        return _cut_tensor(values, clone=clone)
    if type(values) is tuple and all(isinstance(value, Tensor) for value in values):
        return tuple([_cut_tensor(value, clone=clone) for value in values])
    return tree_map_only(Tensor, partial(_cut_tensor, clone=clone), values) if values else values


def _cut_tensor(tensor: Tensor, *, clone: bool) -> Tensor:
    detached = tensor.detach() if tensor.requires_grad else tensor
    return detached.clone() if clone else detached
