"""What a rule answers in one step when activities, or its own parameters, are others: on copies of its state."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from infohebb.learner.refusals import check_inputs
from infohebb.learner.senders import Given
from infohebb.learner.walk import Learn, LearnSynapses, Pass
from infohebb.networks.unit import Unit
from infohebb.rules.contract import LearningRule, LocalError, Neurons, Output, product_of_factors
from infohebb.testing.contract.cases import Case
from infohebb.training.seeding import seeded


@dataclass(frozen=True)
class Probe:
    """One unit in one step: its activity, and the rule that may be asked for its error as often as one likes."""

    rule: LearningRule
    unit: Unit
    z: Tensor
    learn: Learn

    def error(self, *activities: Tensor, change: Callable[[LearningRule], None] | None = None) -> LocalError | None:
        """Return the rule's error for the last of these activities, after it has seen the others; z without any.

        `change` changes the rule's state before. The rule is left as it was.
        """
        with _on_copied_state(self.rule), seeded(0):
            if change is not None:
                change(self.rule)
            found = None
            for z in activities or (self.z,):
                found = self.learn(self.unit, z.clone())
            return found


class Discard:
    """Takes errors and leaves all gradients alone."""

    keeps_graphs = True

    def see(self, layer: str, given: Given) -> None:
        """Nothing."""

    def note(self, unit: str, error: LocalError) -> None:
        """Nothing."""

    def send(
        self, output: Tensor, error: Tensor, parameters: Sequence[Tensor], value: Tensor | None, place: str
    ) -> None:
        """Nothing."""

    def give(self, parameter: Parameter, gradient: Tensor, value: Tensor | None = None) -> None:
        """Nothing."""


class ProbedPass(Pass):
    """A pass that leaves `.grad` alone and shows each unit to `look` before it learns."""

    look: Callable[[Probe], None]
    _probing = False
    _caught: list[LocalError]

    def local(self, learn: Learn, *, once: bool = False) -> Output:
        """Run the network as always, and look at each unit."""

        def probed(unit: Unit, z: Tensor) -> LocalError | None:
            self.look(Probe(self.plan.rule, unit, z.clone(), learn))
            return learn(unit, z)

        return super().local(probed, once=once)

    def neurons(self, learn: LearnSynapses) -> Output:
        """Run the network as always, and look at each unit: its error is that of the rows that the rule gives it."""

        def probed(unit: Unit, neurons: Neurons) -> Tensor | None:
            def again(unit: Unit, z: Tensor) -> LocalError | None:
                slope = torch.where(z == neurons.z, neurons.slope, neurons.slope + z.tanh())
                self._caught = []
                learn(unit, neurons._replace(z=z, slope=slope))
                return self._caught[-1] if self._caught else None

            self._probing = True
            self.look(Probe(self.plan.rule, unit, neurons.z.clone(), again))
            self._probing = False
            return learn(unit, neurons)

        return super().neurons(probed)

    def give(self, layer: str, pre: Tensor, error: Tensor, **stated: Any) -> None:
        """Fill gradients as always; catch the error where a unit is looked at."""
        if not self._probing:
            super().give(layer, pre, error, **stated)
        elif stated.get("post") is not None:
            self._caught.append(LocalError(stated.get("third_factor"), stated["post"], error))


def probe_units(case: Case, look: Callable[[Probe], None]) -> None:
    """Show each unit that learns from a local error to `look`, in the step after a first one."""
    case.step()
    inputs, targets = case.batch()
    walk = ProbedPass(case.plan, inputs, len(targets), Discard())
    walk.look = look
    with seeded(2000):
        case.rule.backward(walk, check_inputs(case.plan, inputs, targets), targets)


def with_third_factor_of(reference: LocalError, found: LocalError) -> Tensor:
    """Return the product of factors for the postsynaptic factor of `found` and the third factor of `reference`."""
    return product_of_factors(found._replace(third_factor=reference.third_factor))


@contextlib.contextmanager
def _on_copied_state(rule: LearningRule) -> Iterator[None]:
    """Let the rule work on a copy of all that it holds."""
    original = dict(vars(rule))
    vars(rule).update(copy.deepcopy(original))
    try:
        yield
    finally:
        vars(rule).clear()
        vars(rule).update(original)


def draw_parameters(rule: LearningRule) -> None:
    """Put random numbers in the place of the rule's own parameters."""
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.copy_(torch.randn_like(parameter))
