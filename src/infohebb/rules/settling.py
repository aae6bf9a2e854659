"""What rules on settling networks share: let the network settle, then let each synapse learn from both its ends."""

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
from infohebb.rules import contract
from infohebb.rules.base import Diagnostics, Inputs, LearningRule, Signals, Targets, check_batch, right_answers
from infohebb.rules.contract import Loss, Step, Walk
from infohebb.rules.layered import assign_gradients, learning, synaptic_gradients

SAME = 1e-6  # difference of rates
UNINVERTED = (
    'lower optimizer.lr, or take rule.forgetting nearer 1, rule.recursion = "exact", or a lower network.entropy_gain'
)


class Experience(NamedTuple):
    """Of one batch: the network's answers (m × outputs) before the nudge, and each weight layer's signals by its name.

    Signals are `pre` (rows × inputs) and `error` (rows × outputs) of one phase after the other: the gradient is errorᵀ
    pre, that of a bias the sum of the errors.
    """

    answers: Tensor
    signals: dict[str, Signals]


class SettlingRule(contract.LearningRule, LearningRule):
    """A rule that learns from where a network settles: write `experience`, and name the networks in `own_network`.

    `step.loss` is the mean squared error of the network's answer before the nudge, for class labels too.
    """

    own_network: ClassVar[type[nn.Module] | None] = Settling
    network_type: ClassVar[type[nn.Module]] = Settling
    needs_units: ClassVar[bool] = False
    loss: Loss | None = "mean_squared_error"
    compiles = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Let both contracts know the networks by the one name that the class gives."""
        super().__init_subclass__(**options)
        named = vars(cls).get("own_network", vars(cls).get("network_type"))
        if named is not None:
            cls.own_network = cls.network_type = named

    def make_network(self, inputs: int | Sequence[int], outputs: int, widths: Sequence[int]) -> Settling:
        """Return a network that this rule trains, with the settings that the rule needs and defaults for the others.

        Raises MismatchError for a rule that names no network which can be made.
        """
        if inspect.isabstract(self.network_type):
            name = self.network_type.__name__
            raise MismatchError(f"{type(self).__name__} trains any {name} network; give it a make_network")
        network = self.network_type(inputs, outputs, widths)
        assert isinstance(network, Settling)
        return network

    @abstractmethod
    def experience(self, network: Any, x: Tensor, target: Tensor, /) -> Experience:
        """Settle, in as many phases as the rule has; x (m × n), target (m × outputs), of labels by `encode_targets`."""

    def encode_targets(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        """Return the targets of the output neurons for labels: one-hot (m × outputs)."""
        return readout.one_hot(labels, outputs, dtype)

    def attach(self, network: Any) -> None:
        """Check network and settings."""
        super().attach(network)
        self.setup_model(network)

    def groups(self, network: Any) -> dict[str, list[Parameter]]:
        """All weights and biases, from the input up, at the `local` rate."""
        return {"local": learning(network.layers)}

    def roles(self, model: Any, /) -> Mapping[str, Sequence[Mapping[str, Parameter]]]:
        """Return weights by layer for the `forward` rate, and biases for the `bias` rate, from the input up."""
        layers = [learning_in(name, layer) for name, layer in model.named_layers()]
        biases = [{name: p for name, p in layer.items() if name.endswith(".bias")} for layer in layers]
        weights = [{name: p for name, p in layer.items() if not name.endswith(".bias")} for layer in layers]
        return without_empty({"forward": weights, "bias": biases})

    @torch.no_grad()
    def backward(self, walk: Walk, inputs: Tensor, targets: Targets) -> Step:
        """Let the network settle, then fill gradients from each layer's signals."""
        network: Any = walk.model
        answers, signals = self._settle(network, inputs, targets)
        for name, given in signals.items():
            check_signals(type(self).__name__, name, given)
            walk.give(name, given["pre"], given["error"], precision=network.precision)
        return Step(finite_loss(network, answers, signals, targets), answers, targets)

    @torch.no_grad()
    def learn(
        self, network: Any, inputs: Inputs, targets: Targets, *, onset: bool = True, record: bool = False
    ) -> Diagnostics:
        """Settle, then fill gradients from each layer's signals."""
        del onset
        check_batch(inputs, targets, network.outputs)
        answers, signals = self._settle(network, inputs, targets)
        for name, given in signals.items():
            layer = network.get_submodule(name)
            if getattr(layer, "bias", None) is not None:
                signals[name] = given = {"bias_pre": answers.new_ones(()), **given}
            assign_gradients(layer, self.update(given, network.precision))
        loss = finite_loss(network, answers, signals, targets)
        return Diagnostics(loss, right_answers(answers, targets), {}, signals if record else {})

    def _settle(self, network: Any, inputs: Inputs, targets: Targets) -> Experience:
        x = network.receive(inputs)
        check_numbers(targets)
        continuous = targets.is_floating_point()
        target = targets.to(x.dtype) if continuous else self.encode_targets(targets, network.outputs, x.dtype)
        return self.experience(network, x, target)

    @torch.no_grad()
    def monitor(self, model: Any, inputs: Inputs, targets: Targets) -> dict[str, dict[str, float]]:
        """Return the mean `rate` of each layer when it answers.

        Raises DivergenceError for a layer that answers the same to every sample.
        """
        del targets
        named = named_states(model, model.states(model.receive(inputs)))
        refuse_sameness(named)
        return {"rate": {name: float(state.mean()) for name, state in named.items()}}

    def watch(self, network: Any, inputs: Inputs, targets: Targets) -> dict[str, dict[str, float]]:
        """What `monitor` returns."""
        return self.monitor(network, inputs, targets)

    def update(self, signals: Signals, precision: Precision = "fp32") -> dict[str, Tensor]:
        """Minus the update of a layer: pre × error, over the samples of all phases."""
        return synaptic_gradients(signals, signals["error"], precision)


def learning_in(name: str, layer: nn.Module) -> dict[str, Parameter]:
    """Return a layer's parameters that are not frozen, by their name in the network."""
    return {f"{name}.{own}": p for own, p in layer.named_parameters() if p.requires_grad}


def without_empty(roles: Mapping[str, Sequence[Mapping[str, Parameter]]]) -> dict[str, list[Mapping[str, Parameter]]]:
    """Return the same roles without layers that have nothing to learn, and without roles that have no layer then."""
    full = {role: [layer for layer in layers if layer] for role, layers in roles.items()}
    return {role: layers for role, layers in full.items() if layers}


def check_signals(rule: str, layer: str, given: Mapping[str, Tensor]) -> None:
    """Raise MismatchError for signals other than pre and error (and a bias's `bias_pre`, which is 1)."""
    if not {"pre", "error"} <= given.keys() <= {"pre", "error", "bias_pre"}:
        names = ", ".join(sorted(given))
        raise MismatchError(
            f"{rule} gives {layer} the signals {names or 'none'}; give pre and error, whose product is the gradient"
        )


def finite_loss(network: Settling, answers: Tensor, signals: dict[str, Signals], targets: Targets) -> Tensor:
    """Return the mean squared error of the answers.  Raises DivergenceError if it is not finite, on the CPU."""
    loss = readout.mean_squared_error(answers, targets).loss
    if loss.device.type == "cpu" and not torch.compiler.is_compiling() and not math.isfinite(float(loss)):
        raise diverged(network, signals)
    return loss


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
    """Return each layer's signals: rows at the lower end of its synapses, and of error at their upper end."""
    pairs = zip(network.named_layers(), ends, strict=True)
    return {name: {"pre": pre, "error": error} for (name, _), (pre, error) in pairs}


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
