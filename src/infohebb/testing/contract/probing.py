"""What a rule answers in one step when activities, or its own parameters, are others: on copies of its state."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from infohebb.learner.refusals import check_inputs
from infohebb.learner.walk import Learn, Pass
from infohebb.networks.unit import Unit
from infohebb.rules.contract import LearningRule, LocalError, Output, product_of_factors
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

    def see(self, layer: str, pre: Tensor, error: Tensor) -> None:
        """Nothing."""

    def note(self, unit: str, error: LocalError) -> None:
        """Nothing."""

    def send(
        self, output: Tensor, error: Tensor, parameters: Sequence[Tensor], value: Tensor | None, place: str
    ) -> None:
        """Nothing."""

    def give(self, parameter: Parameter, gradient: Tensor) -> None:
        """Nothing."""


class ProbedPass(Pass):
    """A pass that leaves `.grad` alone and shows each unit to `look` before it learns."""

    look: Callable[[Probe], None]

    def local(self, learn: Learn) -> Output:
        """Run the network as always, and look at each unit."""

        def probed(unit: Unit, z: Tensor) -> LocalError | None:
            self.look(Probe(self.plan.rule, unit, z.clone(), learn))
            return learn(unit, z)

        return super().local(probed)


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
