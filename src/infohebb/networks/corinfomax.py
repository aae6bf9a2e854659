"""CorInfoMaxNetwork: layers of three-compartment neurons, each with a feedforward and a feedback weight of its own."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError, is_number, is_whole, unknown_name
from infohebb.functional import dynamics
from infohebb.functional.dynamics import Compartments, Current, Schedule, Somata
from infohebb.functional.products import product
from infohebb.networks.settling import Settling, check_counts


class Synapses(nn.Module):
    """Weights (neurons × what they listen to), without biases."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = Parameter(weight)


class Compartmental(nn.Module):
    """What ends on one layer's neurons.

    `feedforward` onto the basal dendrites, `feedback` onto the apical ones (None at the output), and laterally
    `inverse_correlation` (n × n, symmetric), which no gradient moves.
    """

    inverse_correlation: Tensor

    def __init__(self, feedforward: Tensor, feedback: Tensor | None, inverse_correlation: Tensor):
        super().__init__()
        self.feedforward = Synapses(feedforward)
        self.feedback = None if feedback is None else Synapses(feedback)
        self.register_buffer("inverse_correlation", inverse_correlation)


class CorInfoMaxNetwork(Settling):
    """Neurons with basal, apical and somatic potentials.  `network(x)` is the output's rates after the free phase.

    `inputs` is a number of features or a shape; `widths` has one number per hidden layer. A free phase has `steps`
    sweeps, of size `step` or, by the `schedule`, of one that gets smaller with each sweep t: "divide_by_loop_index"
    step/(t + 1), "divide_by_slow_loop_index" step/(1 + step_decay t), but not below `smallest_step`.
    `epsilon` is the ε of the objective, `leak` the somatic leak, `entropy_gain` the γ with which log-determinants enter
    the dynamics (2γ in a hidden layer, γ at the output); as published, (1 - λ)/λ of the rule's forgetting factor λ.
    Rates live in [0, 1]; those of the layers in `sparse` (1 is the first hidden one) are nonnegative, with an
    interneuron that holds down their sum, at that layer's rate in `multiplier_rates`.
    Weights start Xavier-uniform, inverse correlations as X Xᵀ of such an X.
    Raises MismatchError; for a step that could not be stable, not even where a phase ends, with the bound.
    """

    layers: nn.ModuleList

    def __init__(  # noqa: PLR0913, PLR0917  (each setting by its name)
        self,
        inputs: int | Sequence[int] = 64,
        outputs: int = 10,
        widths: Sequence[int] = (256,),
        epsilon: float = 0.15,
        entropy_gain: float = 1e-5,
        leak: float = 0.5,
        step: float = 0.05,
        schedule: Schedule = "constant",
        smallest_step: float = 0.001,
        step_decay: float = 0.01,
        steps: int = 30,
        sparse: Sequence[int] = (),
        multiplier_rates: Sequence[float] = (),
    ):
        super().__init__(inputs, outputs, widths)
        check_positive(epsilon=epsilon, step=step, smallest_step=smallest_step)
        check_numbers(entropy_gain=entropy_gain, leak=leak, step_decay=step_decay)
        check_counts(steps=steps)
        if schedule not in get_args(Schedule):
            raise unknown_name("schedule", str(schedule), get_args(Schedule))
        last = dynamics.step_sizes(schedule, steps, step, smallest_step, step_decay)[-1]
        check_stable(last, epsilon, leak)
        self.epsilon, self.entropy_gain, self.leak = epsilon, entropy_gain, leak
        self.schedule: Schedule = schedule
        self.step, self.smallest_step, self.step_decay = step, smallest_step, step_decay
        self.steps = steps
        self.multiplier_rates = by_layer(sparse, multiplier_rates, len(self.sizes) - 1)
        self.layers = nn.ModuleList(draw(self.sizes))
        ends = [*accumulate(self.sizes[1:], initial=0)]
        self.columns = [slice(first, last) for first, last in pairwise(ends)]  # of each layer among all rates

    def compartmental(self) -> Iterator[Compartmental]:
        """The layers, from the first hidden one up."""
        for layer in self.layers:
            assert isinstance(layer, Compartmental)
            yield layer

    def both_ways(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of each hidden layer its name, the weight W (n' × n) by which the next one reads it, and V (n × n') back."""
        layers = list(self.compartmental())
        for place, (layer, above) in enumerate(pairwise(layers)):
            assert layer.feedback is not None
            yield f"layers.{place}", above.feedforward.weight.detach(), layer.feedback.weight.detach()

    @torch.no_grad()
    def states(self, x: Float[Tensor, "m n"]) -> list[Tensor]:
        """Rates of each layer where the free phase ends."""
        return self.split(Presented(self, x).settle(self.steps))

    def predict(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m outputs"]:
        """The output's rates where the free phase ends."""
        return self.states(x)[-1]

    def step_sizes(self, steps: int) -> list[float]:
        """Of the sweeps of one phase."""
        return dynamics.step_sizes(self.schedule, steps, self.step, self.smallest_step, self.step_decay)

    def split(self, rates: Float[Tensor, "m N"]) -> list[Tensor]:
        """The rates of each layer."""
        return [rates[:, columns] for columns in self.columns]

    def currents(self, x: Float[Tensor, "m n"]) -> list[Current]:
        """What drives each layer while nothing is wanted of it."""
        layers, made = list(self.compartmental()), []
        for place, (layer, own) in enumerate(zip(layers, self.columns, strict=True)):
            forward, feedback = layer.feedforward.weight.detach(), layer.feedback
            drive = None if place else product(x, forward.mT, self.precision).div_(self.epsilon)
            below = (self.columns[place - 1], forward) if place else None
            above = None if feedback is None else (self.columns[place + 1], feedback.weight.detach())
            gain, apical = (self.entropy_gain, 1.0) if above is None else (2 * self.entropy_gain, 1 / self.epsilon)
            conductance, inverse = 1 / self.epsilon + apical + self.leak, layer.inverse_correlation
            constants = (inverse, self.epsilon, gain, self.leak, conductance, self.multiplier_rates[place])
            tolerance = dynamics.lateral_tolerance(inverse, gain, conductance)
            made.append(Current(own, drive, below, above, *constants, tolerance))
        return made

    @torch.no_grad()
    def compartments(
        self,
        inputs: Float[Tensor, "m *features"],
        wanted: Float[Tensor, "m outputs"] | None = None,
        nudge: float = 1.0,
        nudged_steps: int = 10,
    ) -> list[list[Compartments]]:
        """Potentials of each layer after each sweep of the free phase and, if something is wanted, of the nudged one.

        wanted (m × outputs) are the targets, one-hot for labels. Raises MismatchError.
        """
        x, found = self.receive(inputs), []
        check_counts(nudged_steps=nudged_steps)
        if wanted is not None and wanted.shape != (len(x), self.outputs):
            told, fits = tuple(wanted.shape), (len(x), self.outputs)
            raise MismatchError(f"wanted has shape {told}; give {fits}, one-hot for labels: torch.eye({fits[1]})[y]")
        if not is_number(nudge):
            raise MismatchError(f"nudge {nudge!r}: give a finite number")
        shown = Presented(self, x)
        shown.settle(self.steps, watch=lambda somata: found.append(self._potentials(x, shown.rates, somata)))
        if wanted is not None:
            told = (wanted, nudge)
            shown.settle(
                nudged_steps, *told, watch=lambda somata: found.append(self._potentials(x, shown.rates, somata, *told))
            )
        return found

    def _potentials(
        self, x: Tensor, rates: Tensor, somata: Sequence[Tensor], wanted: Tensor | None = None, nudge: float = 0.0
    ) -> list[Compartments]:
        states, found = [x, *self.split(rates)], []
        for place, (layer, soma) in enumerate(zip(self.compartmental(), somata, strict=True), 1):
            basal, rest = (
                states[place - 1] @ layer.feedforward.weight.mT,
                {"gain": self.entropy_gain, "leak": self.leak},
            )
            if layer.feedback is None:
                apical = dynamics.output_apical(states[place], layer.inverse_correlation, wanted, nudge=nudge, **rest)
            else:
                lateral = (states[place + 1], layer.feedback.weight, layer.inverse_correlation)
                apical = dynamics.hidden_apical(states[place], *lateral, epsilon=self.epsilon, **rest)
            found.append(Compartments(basal, apical, soma.clone()))
        return found


class Presented:
    """One batch before a network, at rest to begin with: rates (m × N), and multipliers (m × 1) of sparse layers."""

    def __init__(self, network: CorInfoMaxNetwork, x: Float[Tensor, "m n"]):
        self.network, self.rates = network, x.new_zeros(len(x), network.columns[-1].stop)
        self.multipliers = [None if rate is None else x.new_zeros(len(x), 1) for rate in network.multiplier_rates]
        pairs = zip(network.currents(x), self.multipliers, strict=True)
        self.layers = [Somata(self.rates, current, multiplier) for current, multiplier in pairs]

    def settle(
        self, steps: int, wanted: Tensor | None = None, nudge: float = 0.0, watch: dynamics.Watch | None = None
    ) -> Float[Tensor, "m N"]:
        """Go on from where the last phase ended, for so many sweeps, and say where this one ends.

        A free phase begins with multipliers at 0.
        """
        layers = self.layers
        if wanted is not None and nudge != 0:
            told = layers[-1].current.nudged(wanted, nudge)
            layers = [*layers[:-1], Somata(self.rates, told, self.multipliers[-1])]
        else:
            for multiplier in self.multipliers:
                _ = None if multiplier is None else multiplier.zero_()
        dynamics.settle(layers, self.network.step_sizes(steps), watch)
        return self.rates.clone()

    def residuals(self) -> list[float]:
        """How far each layer is from rest where it now is, free: the mean of |dr| of another sweep, over its step."""
        before, held, step = (
            self.rates.clone(),
            [q if q is None else q.clone() for q in self.multipliers],
            self.network.step,
        )
        dynamics.settle(self.layers, [step])
        moved = [float(change.abs().mean()) / step for change in self.network.split(self.rates - before)]
        self.rates.copy_(before)
        for multiplier, kept in zip(self.multipliers, held, strict=True):
            _ = None if multiplier is None or kept is None else multiplier.copy_(kept)
        return moved


def draw(sizes: Sequence[int]) -> list[Compartmental]:
    """Layers as the published code draws them from torch's generator: what it draws and throws away, too."""
    pairs = [*pairwise(sizes)]
    forward = [_xavier(above, below, discard=True) for below, above in pairs]
    feedback = [_xavier(below, above) for below, above in pairs]
    roots = [_xavier(above, above, discard=True) for _, above in pairs]
    inverses = [root @ root.mT for root in roots]
    received = [*feedback[1:], None]  # nothing is fed back to the input
    return [Compartmental(*each) for each in zip(forward, received, inverses, strict=True)]


def _xavier(rows: int, columns: int, *, discard: bool = False) -> Tensor:
    if discard:
        torch.randn(rows, columns)
    return nn.init.xavier_uniform_(torch.empty(rows, columns))


def by_layer(sparse: Sequence[int], rates: Sequence[float], layers: int) -> list[float | None]:
    """The multiplier's rate of each layer, None for one that is not sparse.  Raises MismatchError."""
    for name, row in (("sparse", sparse), ("multiplier_rates", rates)):
        if not isinstance(row, Sequence):
            raise MismatchError(f"{name} {row!r}: give a number for each sparse layer, in a row, such as [1, 2]")
    if not all(is_whole(place) and 1 <= place <= layers for place in sparse) or len({*sparse}) != len(sparse):
        raise MismatchError(f"sparse {list(sparse)!r}: give different layers from 1, the first hidden one, to {layers}")
    if len(rates) != len(sparse):
        raise MismatchError(
            f"multiplier_rates has {len(rates)} numbers and sparse {len(sparse)} layers; give one for each of them"
        )
    for rate in rates:
        check_positive(multiplier_rates=rate)
    given = dict(zip(sparse, map(float, rates), strict=True))
    return [given.get(place) for place in range(1, layers + 1)]


def check_stable(step: float, epsilon: float, leak: float) -> None:
    """Raise MismatchError for a step by which even one neuron diverges, with the bound; networks may want less."""
    bound = dynamics.largest_step(epsilon, leak)
    if step >= bound:
        raise MismatchError(
            f"step {step} is not stable: with epsilon {epsilon} and leak {leak} it must be below 2/(2/epsilon + leak) "
            f"= {bound:.4g}"
        )


def check_positive(**numbers: object) -> None:
    """Raise MismatchError naming what is no finite number above 0."""
    for name, number in numbers.items():
        if not is_number(number) or not number > 0:  # pyright: ignore[reportOperatorIssue]
            raise MismatchError(f"{name} {number!r}: give a number above 0")


def check_numbers(**numbers: object) -> None:
    """Raise MismatchError naming what is no finite number of at least 0."""
    for name, number in numbers.items():
        if not is_number(number) or number < 0:  # pyright: ignore[reportOperatorIssue]
            raise MismatchError(f"{name} {number!r}: give a number of at least 0")
