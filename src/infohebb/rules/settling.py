"""What rules on settling networks share: let the network settle, then let each synapse learn from what it saw."""

import inspect
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import DivergenceError, MismatchError, NonFiniteDataError, is_number
from infohebb.functional import readout
from infohebb.functional.products import Precision
from infohebb.networks.settling import Settling
from infohebb.rules.base import Diagnostics, Inputs, LearningRule, Signals, Targets, check_batch, right_answers
from infohebb.rules.layered import assign_gradients, learning, synaptic_gradients

SAME = 1e-6  # difference of rates
UNINVERTED = (
    'lower optimizer.lr, or take rule.forgetting nearer 1, rule.recursion = "exact", or a lower network.entropy_gain'
)


class Experience(NamedTuple):
    """Of one batch: what the network answers (m × outputs) before it is told, and each layer's signals by its name."""

    answers: Tensor
    signals: dict[str, Signals]


class SettlingRule(LearningRule):
    """A rule that learns from where a network settles.

    `loss` in its diagnostics is the mean squared error of the network's answer, before it is told the target.
    """

    network_type: ClassVar[type[nn.Module]] = Settling
    compiles = False

    def make_network(self, inputs: int | Sequence[int], outputs: int, widths: Sequence[int]) -> Settling:
        """A network that this rule trains, with the settings that it wants and else those it has without a word.

        Raises MismatchError for a rule that names no network which can be made.
        """
        if inspect.isabstract(self.network_type):
            name = self.network_type.__name__
            raise MismatchError(f"{type(self).__name__} trains any {name} network; give it a make_network")
        network = self.network_type(inputs, outputs, widths)
        assert isinstance(network, Settling)
        return network

    @abstractmethod
    def experience(self, network: Any, x: Tensor, wanted: Tensor) -> Experience:
        """Settle, in as many phases as the rule has. x (m × n), wanted (m × outputs): labels come as `say` has them."""

    def say(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        """What the output is told to say for labels: one-hot (m × outputs)."""
        return readout.one_hot(labels, outputs, dtype)

    def groups(self, network: Any) -> dict[str, list[Parameter]]:
        """All weights and biases, from the input up, at the `local` rate."""
        return {"local": learning(network.layers)}

    @torch.no_grad()
    def learn(
        self, network: Any, inputs: Inputs, targets: Targets, *, onset: bool = True, record: bool = False
    ) -> Diagnostics:
        """Settle, then fill gradients from each layer's signals."""
        del onset
        check_batch(inputs, targets, network.outputs)
        x = network.receive(inputs)
        check_numbers(targets)
        wanted = targets.to(x.dtype) if targets.is_floating_point() else self.say(targets, network.outputs, x.dtype)
        answers, signals = self.experience(network, x, wanted)
        for name, given in signals.items():
            assign_gradients(network.get_submodule(name), self.update(given, network.precision))
        loss = readout.mean_squared_error(answers, targets).loss
        if loss.device.type == "cpu" and not torch.compiler.is_compiling() and not math.isfinite(float(loss)):
            raise diverged(network, signals)
        return Diagnostics(loss, right_answers(answers, targets), {}, signals if record else {})

    @torch.no_grad()
    def watch(self, network: Any, inputs: Inputs, targets: Targets) -> dict[str, dict[str, float]]:
        """The mean `rate` of each layer when it answers.  Raises DivergenceError for one that always says the same."""
        del targets
        named = named_states(network, network.states(network.receive(inputs)))
        refuse_sameness(named)
        return {"rate": {name: float(state.mean()) for name, state in named.items()}}

    def update(self, signals: Signals, precision: Precision = "fp32") -> dict[str, Tensor]:
        """Minus the update of a layer: pre × error, over the samples of all phases."""
        return synaptic_gradients(signals, signals["error"], precision)


def named_states(network: Settling, states: Sequence[Tensor]) -> dict[str, Tensor]:
    """States of the last layers by their names, from the input up."""
    names = [name for name, _ in network.named_layers()]
    return dict(zip(names[len(names) - len(states) :], states, strict=True))


def refuse_sameness(named: Mapping[str, Tensor]) -> None:
    """Raise DivergenceError naming the first layer whose states are the same for every sample."""
    for name, states in named.items():
        if len(states) > 1 and bool((states.amax(0) - states.amin(0) < SAME).all()):
            raise DivergenceError(
                f"{name} has collapsed: it says the same of every sample; lower optimizer.lr or the network's step"
            )


def diverged(network: Settling, signals: dict[str, Signals]) -> DivergenceError:
    """What to say of an answer that is not finite: the first layer with such a weight, or buffer, or signal."""
    mend = "lower optimizer.lr or the network's step"
    for name, layer in network.named_layers():
        if not all(bool(weight.isfinite().all()) for weight in layer.parameters()):
            return DivergenceError(f"{name}: a weight is not finite; {mend}")
        for buffer, value in layer.named_buffers():
            if not bool(value.isfinite().all()):
                return DivergenceError(f"{name}: its {buffer} is not finite; {UNINVERTED}")
    for name, given in signals.items():
        if not all(bool(signal.isfinite().all()) for signal in given.values()):
            return DivergenceError(f"{name}: a rate is not finite; {mend}")
    return DivergenceError(f"the output's rates are not finite; {mend}")


def layer_signals(network: Settling, ends: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Signals]:
    """What each layer's synapses are given, and its biases: rows at their lower end and of error at their upper."""
    return {
        name: {"pre": pre, "error": error, "bias_pre": pre.new_ones(())}
        for (name, _), (pre, error) in zip(network.named_layers(), ends, strict=True)
    }


def check_numbers(targets: Tensor) -> None:
    """Raise NonFiniteDataError for continuous targets that are no numbers."""
    if targets.is_floating_point() and targets.device.type == "cpu" and not math.isfinite(float(targets.sum())):
        raise NonFiniteDataError("targets hold NaN or infinity; take out such samples: y.isfinite().all(1)")


def check_nudge(nudge: object) -> None:
    """Raise MismatchError for a nudge that is no number, or is 0."""
    if not is_number(nudge) or nudge == 0:
        raise MismatchError(f"nudge {nudge!r}: two phases are compared per unit of it; give a number other than 0")


def with_sign(nudge: float, *, drawn: bool) -> float:
    """The nudge of a batch: as it is, or times 1 or -1, drawn from torch's generator."""
    return nudge * (2.0 * int(torch.randint(2, ())) - 1.0 if drawn else 1.0)
