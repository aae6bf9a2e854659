"""A Learner on one batch, made anew for each check, and what can be seen of its steps."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from infohebb.errors import MismatchError
from infohebb.learner import LayerRecord, Learner
from infohebb.learner.plan import Plan
from infohebb.rules.contract import LearningRule, Step
from infohebb.testing.contract.networks import CLASSES, IMAGE, SAMPLES, Example
from infohebb.training.seeding import seeded

BATCH_NORM = nn.modules.batchnorm._BatchNorm
LONGEST_WAIT = 64  # calls of `backward`
Make = Callable[[], LearningRule]


class Part(NamedTuple):
    """A unit or the head: its name, the names of its modules in the model, and of its parameters in the learner."""

    name: str
    modules: tuple[str, ...]
    parameters: frozenset[str]


@dataclass
class Case:
    """A learner and a batch.

    `random_states` holds that of torch's generator after each call of `backward`. Of the last call `given` is what it
    was given, `passed` what the network was called with, and `buffers` the network's buffers before it.
    """

    learner: Learner
    inputs: Any
    targets: Tensor
    calls: int = 0
    given: tuple[Any, Tensor] | None = None
    passed: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    buffers: dict[str, Tensor] = field(default_factory=dict)
    random_states: list[Tensor] = field(default_factory=list)

    @property
    def rule(self) -> LearningRule:
        """The rule."""
        return self.learner.rule

    @property
    def plan(self) -> Plan:
        """What the learner knows of its network."""
        return self.learner._plan

    def batch(self, order: Tensor | None = None) -> tuple[Any, Tensor]:
        """Return what the next call of `backward` is given.

        It is the whole batch, in the given order. A rule that consumes samples is given one after the other; one that
        consumes windows is given the samples as a ring, which turns by one with each call.
        """
        if self.rule.consumes == "batch" and order is None:
            return self.inputs, self.targets
        order = torch.arange(len(self.targets)) if order is None else order
        if self.rule.consumes == "sample":
            order = order[self.calls % len(order)][None]
        elif self.rule.consumes != "batch":
            order = order.roll(-self.calls)
        rows: Tensor = order
        return tree_map_only(Tensor, lambda values: values[rows], self.inputs), self.targets[rows]

    def step(self, *, order: Tensor | None = None, seed: int = 1) -> Step:
        """Call `backward` with empty gradients, until the rule no longer waits.

        Raises AssertionError for a gradient while it waits, and for a rule that waits for ever.
        """
        for call in range(LONGEST_WAIT):
            self.clear()
            inputs, targets = self.given = self.batch(order)
            self.buffers = {name: buffer.clone() for name, buffer in self.learner.model.named_buffers()}
            with self._seen(), seeded(1000 * seed + call):
                step = self.learner.backward(inputs, targets)
                self.random_states.append(torch.get_rng_state())
            self.calls += 1
            if not step.waiting:
                return step
            assert not self.gradients(), f"the gradient of {next(iter(self.gradients()))} is filled while waiting"
        raise AssertionError(f"still waits after {LONGEST_WAIT} calls of backward")

    @contextlib.contextmanager
    def _seen(self) -> Iterator[None]:
        """Note what the network is called with: of a window a rule may let only the current sample through."""

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            self.passed = args, kwargs

        handle = self.learner.model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def step_twice(self) -> None:
        """Step on the batch, then once more with all that the rule keeps of it."""
        self.step()
        self.step(seed=2)

    def record_and_step(self) -> dict[str, LayerRecord]:
        """Return the record of the second step on the batch, whose gradients are filled."""
        self.step()
        inputs, targets = self.batch()
        with seeded(2000):
            records = self.learner.record(inputs, targets)
        self.step(seed=2)
        return records

    def clear(self) -> None:
        """Empty all gradients."""
        for parameter in self.learner.parameters():
            parameter.grad = None

    def trained(self) -> set[str]:
        """Return the names of the parameters in the learner's parameter groups."""
        there = {id(p) for group in self.learner.param_groups() for p in group["params"]}
        return {name for name, parameter in self.learner.named_parameters() if id(parameter) in there}

    def gradients(self) -> dict[str, Tensor]:
        """Return copies of the gradients that are filled, by the parameter's name."""
        return {name: p.grad.clone() for name, p in self.learner.named_parameters() if p.grad is not None}

    def parts(self) -> list[Part]:
        """Return the units in order, and the head last if there is one."""
        selection = self.plan.selection
        parts = [self._part(bounds.unit.name, bounds.modules) for bounds in selection.units]
        return [*parts, self._part("the head", selection.head)] if selection.head else parts

    def _part(self, name: str, modules: tuple[str, ...]) -> Part:
        inside = [(top, self.learner.model.get_submodule(top)) for top in modules]
        parameters = {f"model.{top}.{own}" for top, module in inside for own, _ in module.named_parameters()}
        return Part(name, modules, frozenset(parameters))


Build = Callable[[], Case]


def build_case(make_rule: Make, example: Example) -> Case:
    """Return rule, network and batch in float64, drawn from one seed: the same each time.

    Raises MismatchError, GroupingError for a network that the rule cannot train.
    """
    with seeded(0):
        model, rule = example.make().double(), make_rule()
        if rule.consumes in ("sample", "time_step") and any(isinstance(m, BATCH_NORM) for m in model.modules()):
            raise MismatchError(f"batch norm needs a batch, but {type(rule).__name__} consumes one sample at a time")
        inputs = torch.randn(SAMPLES, *IMAGE, dtype=torch.float64)
        shown = inputs if rule.own_network is None else None
        learner = Learner(model, rule, example.units, example.head, example=shown)
        return Case(bound(learner), inputs, torch.arange(SAMPLES) % CLASSES)


def build_copy(learner: Learner, inputs: Any, targets: Tensor) -> Case:
    """Return a copy of a learner and its batch, in float64."""

    def double(values: Any) -> Any:
        return tree_map_only(Tensor, lambda each: each.double() if each.is_floating_point() else each, values)

    return Case(bound(copy.deepcopy(learner).double()), double(inputs), double(targets))


def bound(learner: Learner) -> Learner:
    """Return the learner, bound to an optimizer that is never used."""
    learner.bind(torch.optim.SGD(learner.param_groups(), lr=0.1))
    return learner


def close(a: Tensor, b: Tensor, scale: float, tolerance: float = 1e-9) -> bool:
    """Whether two tensors are equal but for rounding; `scale` is the largest number of the kind: some are all zero."""
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance * max(float(b.abs().max()), 1e-3 * scale))


def largest(tensors: Mapping[str, Tensor]) -> float:
    """Return the largest absolute value."""
    return max((float(tensor.abs().max()) for tensor in tensors.values()), default=0.0)


def first_difference(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: frozenset[str] | None = None
) -> str | None:
    """Return the name of the first gradient, among `names`, that differs by more than rounding or is missing in b."""
    for name, gradient in a.items():
        if (names is None or name in names) and (name not in b or not close(gradient, b[name], largest(a))):
            return name
    return None


def splits(labels: Tensor) -> Iterator[Tensor]:
    """Yield masks of whole groups such that each two groups are told apart, either way, by one of them."""
    for bit in range(int(labels.max()).bit_length()):
        chosen = (labels >> bit) % 2 == 1
        yield chosen
        yield ~chosen


def submodule(case: Case, name: str) -> nn.Module:
    """Return a module of the model."""
    return case.learner.model.get_submodule(name)
