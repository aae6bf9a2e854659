"""Compiled steps: all that a step computes in one graph of torch.compile, with the optimizer's step where that can be.

No unit waits for another's error, so what a weight learns can be added to it where it is computed.
"""

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from infohebb.errors import MismatchError
from infohebb.functional.dropout import mask_of
from infohebb.learner.plan import Plan
from infohebb.learner.refusals import check_inputs
from infohebb.learner.senders import has_hooks
from infohebb.learner.traced import Traced, TracedPass, UntraceableError
from infohebb.learner.updates import UPDATES, has_state, parameters_of, states_of
from infohebb.networks.plain import randomness
from infohebb.networks.plain.dropout import Dropout
from infohebb.networks.plain.layered import LayeredNetwork
from infohebb.rules.base import check_range
from infohebb.rules.contract import Step

SAME_DRAWS: dict[str, Any] = {"fallback_random": True}  # compiled code draws torch's own random numbers
IN_ONE_PASS: dict[str, Any] = {"realize_reads_threshold": 16}  # what a weight is changed by is not stored before
VERSIONS = 64  # of one step's code: sizes of batches, learning rates, modes, the first samples of a stream
MAY_CHANGE = frozenset(  # conditions of torch.compile on what steps may find changed; our own functions stay
    [
        "TENSOR_MATCH",
        "EQUALS_MATCH",
        "CONSTANT_MATCH",
        "NONE_MATCH",
        "NOT_NONE_MATCH",
        "TRUE_MATCH",
        "FALSE_MATCH",
        "SEQUENCE_LENGTH",
        "GLOBAL_STATE",
        "TORCH_FUNCTION_STATE",
        "GRAD_MODE",
        "DETERMINISTIC_ALGORITHMS",
        "DEFAULT_DEVICE",
        "SHAPE_ENV",
        "AUTOGRAD_SAVED_TENSORS_HOOKS",
    ]
)
OF_ATTRIBUTES = ("DICT_CONTAINS", "DICT_NOT_CONTAINS", "HASATTR", "CLOSURE_MATCH", "FUNCTION_MATCH", "BUILTIN_MATCH")


class Dropped(NamedTuple):
    """One call of a dropout in a step: the module, the unit for which it draws, and the shape of one sample."""

    module: Dropout
    unit: str
    shape: tuple[int, ...]


class CompiledStep:
    """A step of a plan's rule as one graph; with an `optimizer`, its step and the clearing of gradients too.

    `draws` are the calls of dropout in the order in which they come; what they drop is drawn outside of the graph, for
    the number of dropped units differs from step to step. `options` go to torch.compile.
    """

    def __init__(
        self,
        plan: Plan,
        optimizer: Optimizer | None,
        draws: Sequence[Dropped],
        options: Mapping[str, Any],
        *,
        cuda_graphs: bool = False,
    ):
        self.plan, self.draws, self.cuda_graphs = plan, draws, cuda_graphs
        self.traced = Traced(plan)
        self._forwards = [(vars(module), forward) for module, forward in self.traced.forwards]
        self._parameters = [parameter for parameter in plan.model.parameters() if parameter.requires_grad]
        given = dict(options)
        settings: dict[str, Any] = {"guard_filter_fn": partial(guards_to_keep, places=places_of_users(plan))}
        if given.get("backend", "inductor") == "inductor":
            settings |= {**SAME_DRAWS, **(IN_ONE_PASS if optimizer is not None else {})}
            settings |= {"triton.cudagraphs": True} if cuda_graphs else {}
        settings |= given.pop("options", {})
        given = {"dynamic": False, "isolate_recompiles": True, "recompile_limit": VERSIONS, **given}
        given["options"] = settings
        self.code = torch.compile(self._step, fullgraph=True, **given)
        self._update = None if optimizer is None else Update(optimizer)

    def is_valid(self) -> bool:
        """Whether the optimizer has the groups and the state that it had when this was made, and gradients no hooks."""
        for parameter in self._parameters:
            if has_hooks(parameter):
                return False
        return self._update is None or self._update.is_valid()

    def __call__(self, inputs: Any, targets: Tensor, *, onset: bool) -> Step:
        """Take one step.  Raises TorchDynamoException for what torch.compile cannot follow."""
        masks = self._masks(inputs, len(targets)) if self.draws else []
        if self.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        before = [attributes.get("forward") for attributes, _ in self._forwards]  # as `replaced` does, in less time
        for attributes, forward in self._forwards:
            attributes["forward"] = forward
        try:
            try:
                found = self.code(inputs, targets, onset, masks)
            except (TorchDynamoException, FailOnRecompileLimitHit):  # a version that has not been traced yet
                with torch._dynamo.config.patch(trace_autograd_ops=True), warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of functions that it traces
                    found = self.code(inputs, targets, onset, masks)
        finally:
            for (attributes, _), forward in zip(self._forwards, before, strict=True):
                if forward is None:
                    del attributes["forward"]
                else:
                    attributes["forward"] = forward
        loss, logits, terms, waiting = owned(found) if self.cuda_graphs else found
        return Step(loss, logits, targets, terms, waiting)

    def _masks(self, inputs: Any, samples: int) -> list[Tensor]:
        """Return which units each dropout drops: the same as it would draw itself."""
        like = next(leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))
        with randomness.draws():
            masks = []
            for dropped in self.draws:
                randomness.enter_unit(dropped.unit)
                shape = (samples, *dropped.shape)
                masks.append(mask_of(shape, dropped.module.rate, randomness.generator(like.device), like.device))
        return masks

    @torch.no_grad()
    def _step(self, inputs: Any, targets: Tensor, onset: bool, masks: Sequence[Tensor]) -> tuple[Any, ...]:
        walk = TracedPass(self.traced, inputs, len(targets), masks, onset=onset)
        self.traced.walk = walk
        if self._update is not None:
            for parameter in self._update.parameters:
                parameter.grad = None
        rows = inputs if isinstance(inputs, Tensor) else tree_leaves(inputs)[0]
        rows = rows if not rows.is_floating_point() or rows.dtype == torch.float64 else rows.float()
        step = self.plan.rule.backward(walk, rows, targets)
        if self._update is not None:
            self._update()
        self.traced.walk = None
        return step.loss, step.logits, dict(step.terms), step.waiting


class Update:
    """The step of an optimizer that has all its state, as torch.compile can follow it; leaves no gradient behind."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer, self.groups = optimizer, list(optimizer.param_groups)
        self.parameters = parameters_of(optimizer)
        self.function = UPDATES[type(optimizer)]
        self.tables = [(table, table["params"], states_of(optimizer, table)) for table in optimizer.param_groups]
        self._states = list(optimizer.state.values())
        self._momenta = [(table, table.get("momentum")) for table in self.groups]

    def is_valid(self) -> bool:
        """Whether the optimizer has the groups, and keeps the states, that it had: `load_state_dict` makes others."""
        now, state = self.optimizer.param_groups, self.optimizer.state
        same = len(now) == len(self.groups) and all(map(operator.is_, now, self.groups))
        kept = same and len(state) == len(self._states) and all(map(operator.is_, state.values(), self._states))
        return kept and all(table.get("momentum") == momentum for table, momentum in self._momenta)

    def __call__(self) -> None:
        """Step by the gradients that are there."""
        for table, parameters, states in self.tables:
            learned = [place for place, parameter in enumerate(parameters) if parameter.grad is not None]
            if learned:
                self.function(table, [parameters[place] for place in learned], [states[place] for place in learned])
        for parameter in self.parameters:
            parameter.grad = None


def guards_to_keep(entries: Sequence[Any], *, places: Sequence[str]) -> list[bool]:
    """Return which of torch.compile's conditions are looked at in each step: those that may change."""
    return [entry.guard_type in MAY_CHANGE or is_of_users(entry.guard_type, entry.name, places) for entry in entries]


def is_of_users(kind: str, name: str, places: Sequence[str]) -> bool:
    """Whether a condition is on what a user may change between steps.

    That is whether two inputs are the same tensor, which tensors a rule keeps, and the attributes of what is at the
    `places` of users' own code.
    """
    if kind == "DUPLICATE_INPUT":
        return name.startswith("args")
    if kind in ("DICT_CONTAINS", "DICT_NOT_CONTAINS") and ".plan.rule" in name and "_buffers" in name:
        return True
    return kind in OF_ATTRIBUTES and any(place in name for place in places)


def places_of_users(plan: Plan) -> list[str]:
    """Return where a traced step has a model or a rule that is not of this library."""
    of_users = {"model": not isinstance(plan.model, LayeredNetwork)}
    of_users["rule"] = not type(plan.rule).__module__.startswith("infohebb.")
    return [f".plan.{name}" for name, own in of_users.items() if own]


def owned(found: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the same in memory of its own: the next replay of a CUDA graph writes over what the last one gave."""
    loss, logits, terms, waiting = found
    kept = {unit: {term: value.clone() for term, value in values.items()} for unit, values in terms.items()}
    return *(each if each is None else each.clone() for each in (loss, logits)), kept, waiting


def can_join(optimizer: Optimizer) -> bool:
    """Whether an optimizer's step may be in the graph: torch's SGD, Adam or AdamW, on the CPU, without hooks."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters_of(optimizer))
    hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return on_cpu and not hooked and type(optimizer) in UPDATES


def is_ready(plan: Plan, optimizer: Optimizer) -> bool:
    """Whether an optimizer has all its state, and steps all that learns."""
    stepped = {id(parameter) for parameter in parameters_of(optimizer)}
    learns = [p for module in (plan.model, plan.rule) for p in module.parameters() if p.requires_grad]
    return has_state(optimizer) and all(id(parameter) in stepped for parameter in learns)


class Watched:
    """Hooks on the dropouts of a model that note what each call draws for."""

    def __init__(self, model: nn.Module):
        self.model, self.draws = model, []

    def __enter__(self) -> "Watched":
        modules = [module for module in self.model.modules() if isinstance(module, Dropout)]
        self.handles = [module.register_forward_pre_hook(self._note) for module in modules]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _note(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(module, Dropout)
        if module.training and module.rate > 0:
            self.draws.append(Dropped(module, randomness.current_unit(), tuple(args[0].shape[1:])))


class Compilation:
    """What a learner has compiled: whole steps, or the forwards of its units where a step cannot be one graph."""

    def __init__(self, options: Mapping[str, Any], *, cuda_graphs: bool = False):
        self.options, self.cuda_graphs = dict(options), cuda_graphs
        self.failed = False
        self.draws: list[Dropped] | None = None
        self._dropouts: list[tuple[Dropout, bool, float]] = []  # with the mode and rate of the watched step
        self._kind: tuple[Any, ...] | None = None  # of the last batch
        self._has_labels = False  # on the CPU, where they can be looked at
        self._steps: dict[Optimizer | None, CompiledStep] = {}
        self._forwards: dict[str, Callable[..., Any]] = {}

    def is_whole(self, plan: Plan) -> bool:
        """Whether the next step is one graph: torch.compile can follow it, and a plain one has shown what is drawn."""
        drawn = all(each.training == mode and each.rate == rate for each, mode, rate in self._dropouts)
        return plan.rule.traceable and not self.failed and self.draws is not None and drawn

    def watch(self, model: nn.Module, step: Callable[[], Step]) -> Step:
        """Take a plain step, and note what its dropouts draw for."""
        with Watched(model) as watched:
            found = step()
        self.draws = watched.draws
        self._dropouts = [(each, each.training, each.rate) for each in model.modules() if isinstance(each, Dropout)]
        self._steps = {}
        return found

    def check(self, plan: Plan, inputs: Any, targets: Any) -> None:
        """Raise what `check_inputs` raises; a batch of the same kind as the last is looked at for its labels only."""
        kind = None
        if isinstance(inputs, Tensor) and isinstance(targets, Tensor) and not torch.is_inference_mode_enabled():
            kind = (inputs.shape, inputs.dtype, inputs.device, targets.shape, targets.dtype, targets.device)
        if kind is None or kind != self._kind:
            check_inputs(plan, inputs, targets)
            self._kind = kind
            self._has_labels = not targets.dtype.is_floating_point and targets.device.type == "cpu"
        elif plan.classes is not None and self._has_labels:
            check_range(targets, plan.classes)

    def take(
        self, plan: Plan, optimizer: Optimizer | None, inputs: Any, targets: Tensor, *, onset: bool
    ) -> Step | None:
        """Take a step as one graph; None if the optimizer is not ready or, with a warning, if torch cannot follow."""
        assert self.draws is not None
        compiled = self._steps.get(optimizer)
        try:
            if compiled is None or not compiled.is_valid():
                if optimizer is not None and not is_ready(plan, optimizer):
                    return None
                compiled = CompiledStep(plan, optimizer, self.draws, self.options, cuda_graphs=self.cuda_graphs)
                self._steps[optimizer] = compiled
            return compiled(inputs, targets, onset=onset)
        except (TorchDynamoException, FailOnRecompileLimitHit, GuardOnDataDependentSymNode, UntraceableError) as error:
            not_compiled(type(plan.rule).__name__, error)
            self.failed = True
            return None

    def forwards(self, plan: Plan) -> dict[str, Callable[..., Any]]:
        """Return each unit's compiled forward by the module's name, where steps cannot be one graph."""
        if plan.rule.traceable and not self.failed:
            return {}
        if not self._forwards:
            names = [name for bounds in plan.selection.units for name in bounds.modules]
            self._forwards = {
                name: torch.compile(plan.model.get_submodule(name).forward, **self.options) for name in names
            }
        return self._forwards

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: compiled code is made anew."""
        return {**vars(Compilation({})), "options": self.options, "cuda_graphs": self.cuda_graphs}


class StepWithOptimizer:
    """Clears gradients, lets a learner learn, and steps an optimizer; with `join`, all that in one graph.

    While the optimizer lacks state or a parameter that learns, the steps are the plain ones.
    """

    def __init__(self, backward: Callable[..., Step], optimizer: Optimizer, join: Callable[..., Step] | None):
        self.backward, self.optimizer, self.join = backward, optimizer, join
        self.in_one_graph = False

    def __call__(self, inputs: Any, targets: Tensor, *, onset: bool = True) -> Step:
        """Take one step; `in_one_graph` tells afterwards whether it left no gradients behind."""
        self.in_one_graph = True
        if self.join is None:
            return self.apart(inputs, targets, onset=onset)
        return self.join(self.apart, self.optimizer, inputs, targets, onset=onset)

    def apart(self, inputs: Any, targets: Tensor, *, onset: bool) -> Step:
        """Take one step, the optimizer's after what is learned."""
        self.in_one_graph = False
        for parameter in parameters_of(self.optimizer):
            parameter.grad = None
        step = self.backward(inputs, targets, onset=onset)
        self.optimizer.step()
        return step


def not_compiled(rule: str, error: Exception) -> None:
    """Warn that a step is not one graph, and why."""
    reason = " ".join(str(error).split())[:160]
    if isinstance(error, FailOnRecompileLimitHit):
        reason = f"{VERSIONS} versions were made, as where a rate or a size of batches is another in each step"
    warnings.warn(
        f"the step of {rule} cannot be compiled as one graph ({reason}); each unit is compiled by itself", stacklevel=4
    )


def check_compilable(rule: Any) -> None:
    """Raise MismatchError for a rule of networks that settle, or one that intercepts calls inside units."""
    if rule.intercepts_calls:
        raise MismatchError(
            f"{type(rule).__name__} intercepts the calls of torch inside units, so that nothing would be compiled; "
            "leave learner.compile() out, or compiled=True"
        )
    if rule.own_network is not None:
        name = type(rule).__name__
        raise MismatchError(f"compile(): {name} trains a network as a whole, without units to compile; leave it out")
