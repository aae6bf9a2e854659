"""Learner: a rule and any network, trained in any loop."""

import contextlib
import copy
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from infohebb.errors import MismatchError, is_whole, unknown_name
from infohebb.learner.bounds import Selection, trainable
from infohebb.learner.choose import Choose
from infohebb.learner.compiled import Compilation, StepWithOptimizer, can_join, check_compilable
from infohebb.learner.groups import Value, make_param_groups
from infohebb.learner.inspection import activities_of, logits_of
from infohebb.learner.layers import channels_of
from infohebb.learner.neurons import check_elementwise
from infohebb.learner.owners import OWNERS
from infohebb.learner.plan import (
    Plan,
    check_unchanged,
    has_same_parameters,
    modules_of,
    parameters_in,
    places_of,
)
from infohebb.learner.probing import observe
from infohebb.learner.records import LayerRecord, record_step
from infohebb.learner.refusals import (
    check_choice,
    check_exchange,
    check_holds,
    check_inputs,
    check_left_out,
    check_model,
    check_network,
    check_no_gradients,
    check_onset,
    check_optimizer,
    check_rule_type,
    check_scale,
    check_settings_known,
)
from infohebb.learner.selection import Head, Units, as_expression, select
from infohebb.learner.selection_checks import check_parameters
from infohebb.learner.senders import AsLoss, Immediate, Sender
from infohebb.learner.walk import Pass
from infohebb.networks.plain.randomness import restored_random_state
from infohebb.networks.plain.stacked import StackedLinear
from infohebb.rules.contract import LearningRule, LocalRule, Step

PER_MODULE = 8  # versions of a module's compiled code, one for each size of batch
BOUND: weakref.WeakKeyDictionary[Optimizer, weakref.WeakSet[nn.Module]] = weakref.WeakKeyDictionary()


def copied(learner: "Learner") -> "Learner":
    """Return a deep copy; of tensors that modules keep with a graph (a pruned weight, a feature), the value."""
    kept = [value for module in learner.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    values = {id(tensor): tensor.detach().clone() for tensor in kept if tensor.grad_fn is not None}
    return copy.deepcopy(learner, values)


class Learner(nn.Module):
    """Trains `model` by `rule`: fills `.grad` of its parameters, never steps.

    `units` names the parts of the network that learn by themselves: submodule names, patterns (`*` stands for one name
    component, `**` for any number, also none), runs of children of an nn.Sequential ("features.0:3"), module types, or
    modules.
    None takes the units that a network of ours knows or, in an nn.Sequential, each weight layer with the layers that
    follow it. `head` is the name, or names, of what learns from the label loss: None is the last Linear, False is none.
    `example` is a batch, or the shape of one sample, run once without gradients so that rules with tensors of their own
    learn the shapes of activities. `classes` is the number of outputs where the head does not tell it.
    `activity` maps a unit's name, or a pattern, to a function that picks the activity out of what the unit returns
    (default: its first tensor, whose first axis is the batch); `output` picks the logits out of what the model returns.
    A rule that trains networks of its own type as a whole, such as CorInfoMax, takes none of these but `classes`.

    The model is untouched between calls: hooks exist only during one. Raises MismatchError, UnknownNameError.

        learner = infohebb.Learner(model, rule, units=["stem", "layers.*"], head="fc")
        optimizer = torch.optim.AdamW(learner.param_groups(units=1e-3, head=1e-2))
        for x, y in loader:
            optimizer.zero_grad()
            step = learner.backward(x, y)
            optimizer.step()
    """

    def __init__(
        self,
        model: nn.Module,
        rule: LearningRule,
        units: Units = None,
        head: Head = None,
        *,
        example: Any = None,
        classes: int | None = None,
        activity: Mapping[str, Choose] | None = None,
        output: Choose | None = None,
    ):
        check_rule_type(rule)
        check_model(model)
        super().__init__()
        self.model, self.rule = model, rule
        check_network(model, rule)
        if rule.own_network is None:
            selection = select(model, units, head, needs_units=rule.needs_units)
        else:
            given = {"units": units, "head": head, "example": example, "activity": activity, "output": output}
            check_left_out(rule, given)
            selection = Selection((), ())
        self._plan = Plan(model, rule, selection, None, {}, output)
        self._plan.modules = modules_of(self._plan)
        self._plan.places = places_of(self._plan)
        self._plan.activities = self._by_unit({} if activity is None else activity)
        check_choice("output", output)
        if example is not None:
            observe(self._plan, example)
        self._plan.classes = self._count_classes(classes)
        self._checked, self._bound = False, False
        self._compilation: Compilation | None = None
        self._owner_seen = 0
        if not OWNERS.give(rule, model):  # for the same model it keeps what it has drawn
            rule.reset()
        self._set_up()

    def _set_up(self) -> None:
        """Have the rule allocate its own tensors, on the device of the head."""
        self._plan.linear = {
            bounds.unit.name: check_elementwise(self.model, bounds, self._plan.activities.get(bounds.unit.name))
            for bounds in (self._plan.selection.units if self.rule.needs_neurons else ())
        }
        self.rule.setup_model(self.model)
        head = trainable(self.model, self.head) or list(self.model.parameters())[:1]
        self.rule.setup(self.units, head, self.classes)

    @property
    def units(self) -> list[Any]:
        """The units in order: each has a name, a place, and the shape of its activity once that is known."""
        return [bounds.unit for bounds in self._plan.selection.units]

    @property
    def head(self) -> tuple[str, ...]:
        """The names of the head's modules."""
        return self._plan.selection.head

    @property
    def has_label_loss(self) -> bool:
        """Whether steps take a label loss of the model's output: a local rule takes none where there is no head."""
        return bool(self.head) or not isinstance(self.rule, LocalRule)

    @property
    def classes(self) -> int | None:
        """The number of the network's outputs."""
        return self._plan.classes

    def backward(
        self,
        inputs: Any,
        targets: Tensor,
        *,
        accumulate: bool = False,
        scale: float | Tensor | GradScaler = 1.0,
        onset: bool = True,
    ) -> Step:
        """Fill `.grad` for one batch and return its loss, logits and terms; memory does not grow with depth.

        inputs (m, ...): a tensor, a tuple of arguments or a mapping of keyword arguments of the model. targets (m)
        class indices or (m, n) numbers. Gradients from before are refused, so that none is overwritten without a word:
        call `optimizer.zero_grad()`, or with `accumulate` add to them; the objective of a kernel is then one per
        micro-batch, not that of the whole. `scale`, a number or a torch.amp.GradScaler, multiplies the gradients, so
        that small errors survive float16; then call scaler.step(optimizer) and scaler.update() as usual. Rules that
        compare inputs (HSICBottleneck, "..._bottleneck" objectives) take a single input.
        For rules that learn from a stream `onset` tells whether the sample has just come; False while it is held for
        another time step.
        Raises MismatchError, LabelError, EmptyBatchError.
        """
        if not accumulate:
            check_no_gradients(self.model, self.rule)
        check_scale(scale)
        check_onset(self.rule, onset)
        plain = partial(self._step, sender=Immediate(scale))
        if self._compilation is not None and not accumulate and isinstance(scale, float) and scale == 1.0:
            return self._take_compiled(plain, None, inputs, targets, onset=onset)
        return plain(inputs, targets, onset=onset)

    def forward(self, inputs: Any, targets: Tensor | None = None, *, onset: bool = True) -> Tensor:
        """Return the label loss plus the objectives of the units, whose `.backward()` fills the same gradients.

        All graphs are kept until then: it needs as much memory as backprop, and works with whatever takes a loss. Where
        a rule of streams has nothing to learn yet, `.backward()` fills nothing.
        """
        if targets is None:
            raise MismatchError("learner(inputs, targets) is the loss; for predictions call learner.model(inputs)")
        check_onset(self.rule, onset)
        sender = AsLoss()
        step = self._step(inputs, targets, sender, onset=onset)
        if step.waiting and not sender.scalars:
            loss = next(self.model.parameters()).new_zeros(()) if step.loss is None else step.loss.sum()
            return loss.detach().clone().requires_grad_()
        if not sender.scalars:
            raise MismatchError("nothing learned from this batch, so there is no loss; is every parameter frozen?")
        return sender.loss(step.loss)

    def _step(self, inputs: Any, targets: Tensor, sender: Sender, *, onset: bool = True) -> Step:
        check_unchanged(self._plan)
        rows = check_inputs(self._plan, inputs, targets)
        self._check_bound()
        self._check_owner()
        self._plan.compiled = {} if self._compilation is None else self._compilation.forwards(self._plan)
        if not self._is_checked():
            check_parameters(self.model, self._plan.selection, everything=self.rule.needs_units)
        check = sender.keeps_graphs or not self._checked
        walk = Pass(self._plan, inputs, len(targets), sender, check=check, onset=onset)
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise MismatchError("there is nothing to learn: every parameter is frozen; use requires_grad_()")
        with self._room_for_code():
            step = self.rule.backward(walk, rows, targets)
        if not self._checked:
            self._plan.parameters, self._checked = parameters_in(self.model), True
        return step

    def _is_checked(self) -> bool:
        """Whether a step has been checked as a whole, with the parameters that the model has now."""
        if self._checked and not has_same_parameters(self._plan):
            self._checked = False
        return self._checked

    def param_groups(self, **values: Value) -> list[dict[str, Any]]:
        """Return parameter groups for any torch optimizer, by role: `units`, `head` and `rule` (what the rule owns).

        Rules that train a network as a whole have other roles, such as CorInfoMax's `forward` and `feedback`. A value
        is a learning rate, a dictionary of optimizer settings, or a list with one of them per unit or layer. A name or
        pattern of parameters overrides its role: param_groups(units=1e-3, **{"**.bias": {"weight_decay": 0.0}}). A role
        that is left out takes the optimizer's defaults. Frozen parameters are left out. Each group has its "role".
        Raises MismatchError, UnknownNameError.
        """
        return make_param_groups(self._plan, values)

    def bind(self, optimizer: Optimizer) -> Optimizer:
        """Have the rule change gradients just before each step of `optimizer`, and return it.

        Rules that need it refuse to run without; for all others it changes nothing. Bound again it stays bound once.
        """
        check_optimizer(optimizer)
        learners = BOUND.setdefault(optimizer, weakref.WeakSet())
        if self.rule.changes_gradients and self not in learners:
            learners.add(self)
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            rule = self.rule  # and nothing else of the learner, which the optimizer must not keep alive
            optimizer.register_step_pre_hook(lambda *_: rule.before_step(parameters))
            self._bound = True
        return optimizer

    def _check_bound(self) -> None:
        if not self._bound and self._plan.rule.changes_gradients:
            raise MismatchError(
                f"{type(self.rule).__name__} changes gradients before the optimizer's step: call "
                "learner.bind(optimizer) first"
            )

    def logits(self, inputs: Any) -> Tensor:
        """Return the model's logits (m × outputs) for a batch, in the mode that the model is in, with their graph."""
        return logits_of(self._plan, inputs)

    def activities(self, inputs: Any) -> dict[str, Tensor]:
        """Return each unit's activity for a batch by the unit's name, in eval mode and without graphs."""
        return activities_of(self._plan, inputs)

    def with_rule(self, rule: LearningRule) -> "Learner":
        """Return a copy of this learner, its model included, that learns by a copy of another rule; not compiled.

        Raises the errors of that rule's `setup`.
        """
        check_rule_type(rule)
        check_exchange(self.model, self.rule, rule)
        twin = copied(self)
        twin._modules["rule"] = twin._plan.rule = copy.deepcopy(rule)
        twin._compilation, twin._checked = None, False
        twin.rule.reset()
        twin._set_up()
        twin.rule.to(next(twin.model.parameters()).device)
        return twin

    def _check_owner(self) -> None:
        """Raise MismatchError if the rule's own tensors have been made for another model since."""
        if self._owner_seen == OWNERS.given:  # no learner was made since
            return
        last = OWNERS.models.get(self.rule)
        if last is None or last() is self.model:
            self._owner_seen = OWNERS.given
            return
        owns = next(self.rule.parameters(), None) is not None or next(self.rule.buffers(), None) is not None
        if owns:
            raise MismatchError(
                f"this {type(self.rule).__name__} was given to another model since, and its own tensors with it; give "
                "each learner a rule of its own"
            )

    def record(self, inputs: Any, targets: Tensor, *, onset: bool = True) -> dict[str, LayerRecord]:
        """Return for each weight layer of units and head its input, the error at its output and the rule's factors.

        By the layer's name in the model. Works on a copy: gradients, buffers and random state stay as they are.
        """
        devices = {p.device for p in self.parameters() if p.device.type == "cuda"}
        with restored_random_state(sorted(devices, key=str)):
            return record_step(copied(self)._plan, inputs, targets, onset=onset)

    @property
    def is_compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compilation is not None

    def make_step(self, optimizer: Optimizer) -> StepWithOptimizer:
        """Return a function of (inputs, targets, onset=True) that clears gradients, learns and steps the optimizer.

        Of a compiled learner it is one graph, optimizer included, for torch's SGD, Adam and AdamW on the CPU; such a
        step calls no hooks of the optimizer and leaves no gradient behind. Raises MismatchError for an optimizer that
        holds no parameter of the learner, UnknownNameError for a setting of `param_groups` that it does not have.
        """
        self.bind(optimizer)
        check_holds(optimizer, self.parameters())
        check_settings_known(optimizer)
        joined = self._compilation is not None and self.rule.traceable and can_join(optimizer)
        return StepWithOptimizer(self.backward, optimizer, self._take_compiled if joined else None)

    def compile(self, *, cuda_graphs: bool = False, **options: Any) -> None:
        """Have torch.compile make each step one graph; changes rounding only.

        The model itself stays as it is, and what `backward` refuses is refused as before. The first step is a plain
        one, and so are those with accumulate= or scale=. Rules whose step torch.compile cannot follow
        (DirectFeedbackAlignment, rules of your own that ask for numbers) have each unit compiled by itself. Hooks that
        are added to the model after a step was compiled are not called by it. `cuda_graphs` records the kernels of a
        step once and replays them. `options` are those of torch.compile.
        Raises MismatchError for rules of networks that settle, and for those that intercept calls inside units.
        """
        check_compilable(self.rule)
        self._compilation = Compilation(options, cuda_graphs=cuda_graphs)

    def _take_compiled(
        self, apart: Callable[..., Step], optimizer: Optimizer | None, inputs: Any, targets: Tensor, *, onset: bool
    ) -> Step:
        """Take a step as one graph, with the optimizer's if one is given; where that cannot be, by `apart`."""
        compilation = self._compilation
        assert compilation is not None
        if not self._is_checked() or not compilation.is_whole(self._plan):
            return compilation.watch(self.model, partial(apart, inputs, targets, onset=onset))
        check_unchanged(self._plan)
        compilation.check(self._plan, inputs, targets)
        self._check_bound()
        self._check_owner()
        step = compilation.take(self._plan, optimizer, inputs, targets, onset=onset)
        return apart(inputs, targets, onset=onset) if step is None else step

    def _room_for_code(self) -> contextlib.AbstractContextManager[Any]:
        """Let torch.compile make code for each unit and batch size, where it would soon give up."""
        if self._compilation is None:
            return contextlib.nullcontext()
        return torch._dynamo.config.patch(recompile_limit=PER_MODULE * len(list(self.model.modules())))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; model and rule are set once, for units, head and what the rule owns belong to them."""
        if name in ("model", "rule") and name in self.__dict__.get("_modules", {}):
            raise MismatchError(f"learner.{name} is set once; make a new Learner, or learner.with_rule(rule)")
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: compiled code is made anew, and a copy's optimizer is another."""
        plan = copy.copy(self._plan)
        plan.compiled = {}
        return {**self.__dict__, "_plan": plan, "_bound": False}

    def extra_repr(self) -> str:
        """Units and head."""
        units = ", ".join(unit.name for unit in self.units)
        return f"units=[{units}], head={', '.join(self.head) or False}"

    def _count_classes(self, given: int | None) -> int | None:
        if given is not None and (not is_whole(given) or given < 1):
            raise MismatchError(f"classes={given!r}: give a whole number of at least 1")
        known = self._plan.classes  # an example has shown it
        known = getattr(self.model, "outputs", None) if self.rule.own_network is not None else known
        for name in reversed(self._plan.selection.head) if known is None else ():
            layers = [m for m in self.model.get_submodule(name).modules() if isinstance(m, (nn.Linear, StackedLinear))]
            known = channels_of(layers[-1]) if layers and known is None else known
        if given is not None and self._plan.pick is None and known not in (None, given):
            raise MismatchError(f"classes={given}, but the model gives {known} outputs; leave classes= out")
        return known if given is None else int(given)

    def _by_unit(self, activity: Mapping[str, Choose]) -> dict[str, Choose]:
        """Return what picks the activity, by the unit's name.  Raises UnknownNameError for a name that fits none."""
        if not isinstance(activity, Mapping):
            raise MismatchError(f"activity is a {type(activity).__name__}: give a dictionary of unit name and function")
        found: dict[str, Choose] = {}
        for pattern, choose in activity.items():
            expression = as_expression(pattern)
            fitting = [unit for unit in self.units if expression.fullmatch(unit.name)]
            if not fitting:
                raise unknown_name("unit", pattern, [unit.name for unit in self.units])
            for unit in fitting:
                check_choice(f"activity[{pattern!r}]", choose)
                found[unit.name] = choose
                unit.divisive_norm = None  # it follows what the unit returns, not what is picked
        return found
