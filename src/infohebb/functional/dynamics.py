"""Neurons with three compartments: dendrites below (basal) and above (apical) a soma whose potential v makes a rate r.

rates (m × N)        of all layers side by side, samples down; a layer owns some of the columns
potential (m × n)    of one layer's somata, or of a dendrite
feedforward W (n × n')   from the layer below, onto basal dendrites
feedback V (n × n'')     from the layer above, onto apical dendrites
inverse B (n × n)        the layer's inverse correlation: lateral inhibition, and autapses
ε, γ, g, β               prediction's variance, entropy gain, leak, nudge
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

WIDE = 64  # neurons, from which on it is worth looking whether a lateral current has to be renewed
FINEST = 1e-5  # change of rates that is too small to be worth looking for
Rates = Float[Tensor, "m n"]
Watch = Callable[[Sequence[Tensor]], object]  # is shown the somata's potentials after each sweep
Schedule = Literal["constant", "divide_by_loop_index", "divide_by_slow_loop_index"]


def step_sizes(schedule: Schedule, steps: int, first: float, smallest: float, decay: float) -> list[float]:
    """h of each sweep of a phase: h0, h0/(t + 1) or h0/(1 + d t), the latter two not too small.  [CIM 4.4]"""
    if schedule == "constant":
        return [first] * steps
    slowness = 1.0 if schedule == "divide_by_loop_index" else decay
    return [max(first / (1 + slowness * t), smallest) for t in range(steps)]


def largest_step(epsilon: float, leak: float) -> float:
    """2 / (2/ε + g): from here on an Euler step of one hidden neuron diverges; weights may want less.  [CIM 4.5]"""
    return 2 / (2 / epsilon + leak)


class Compartments(NamedTuple):
    """Potentials (m × n) of one layer."""

    basal: Tensor
    apical: Tensor
    soma: Tensor


def hidden_apical(
    rates: Rates, above: Tensor, feedback: Tensor, inverse: Tensor, *, epsilon: float, gain: float, leak: float
) -> Rates:
    """V r'' + ε (2γ B r + g r): what reaches a hidden layer's apical dendrites.  [CIM 4.1]"""
    return above @ feedback.mT + epsilon * (2 * gain * (rates @ inverse) + leak * rates)


def output_apical(
    rates: Rates, inverse: Tensor, wanted: Tensor | None, *, gain: float, leak: float, nudge: float
) -> Rates:
    """γ B r + g r - β (r - y): what reaches the output's apical dendrites.  [CIM 4.2]"""
    apical = gain * (rates @ inverse) + leak * rates
    return apical if wanted is None or nudge == 0 else apical - nudge * (rates - wanted)


class Current(NamedTuple):
    """What drives one layer's somata: dv = (v_B - v)/ε + c (v_A - v) - g v, c being 1/ε, and 1 at the output.

    Gathered by what it comes from, dv = drive + r' Wᵀ/ε + r'' Vᵀ/ε + `gain` r B + `leak` r - `conductance` v. What is
    constant while the network settles, such as W x/ε, is the `drive` (m × n); the layer above the input has no other
    `below`, the output no `above`. `multiplier_rate` is that of a sparse layer, None for rates that live in [0, 1].
    The lateral current r B is not renewed while no rate has moved by more than the `tolerance`.
    """

    own: slice
    drive: Tensor | None
    below: tuple[slice, Tensor] | None
    above: tuple[slice, Tensor] | None
    inverse: Tensor
    epsilon: float
    gain: float
    leak: float
    conductance: float
    multiplier_rate: float | None = None
    tolerance: float = 0.0

    def nudged(self, wanted: Rates, nudge: float) -> "Current":
        """The output's, with -β (r - y) in it."""
        told = nudge * wanted
        return self._replace(drive=told if self.drive is None else self.drive + told, leak=self.leak - nudge)


def lateral_tolerance(inverse: Tensor, gain: float, conductance: float) -> float:
    """How far rates may move before a lateral current that is not renewed would show in the last digit of a potential.

    Half a unit of that digit at 1, over what a change of all rates by 1 makes of a potential at most: a neuron's
    lateral weights summed, in absolute value, × gain / conductance. 0 where to look would cost more than to renew.
    """
    if len(inverse) < WIDE or inverse.device.type != "cpu" or torch.compiler.is_compiling():
        return 0.0
    reach = float((inverse.abs() @ inverse.new_ones(len(inverse))).max()) * gain / conductance
    allowed = torch.finfo(inverse.dtype).eps / 2
    if reach == 0:
        return math.inf
    return allowed / reach if allowed > FINEST * reach else 0.0


class Somata:
    """One layer on its way: potentials v (m × n), what they receive, and where its rates are written."""

    def __init__(self, rates: Float[Tensor, "m N"], current: Current, multiplier: Float[Tensor, "m 1"] | None = None):
        self.current, self.rates, self.multiplier = current, rates[:, current.own], multiplier
        self.potential, self.slow = self.rates.clone(), None if multiplier is None else multiplier.clone()
        reads = [received for received in (current.below, current.above) if received is not None]
        self.reads = [(rates[:, columns], weight.mT.contiguous()) for columns, weight in reads]
        self.steady = current.drive  # with the lateral current of the rates that it was made of, if it is kept
        self.made_of: Tensor | None = None
        if current.tolerance == 0:
            itself = torch.mul(current.inverse, current.gain * current.epsilon)
            itself.diagonal().add_(current.leak * current.epsilon)
            self.reads.append((self.rates, itself))

    def begin(self) -> None:
        """Potentials are what the rates are: what lay beyond the clip is forgotten."""
        self.potential.copy_(self.rates)
        if self.slow is not None and self.multiplier is not None:
            self.slow.copy_(self.multiplier)

    def sweep(self, h: float) -> None:
        """One step of potentials, rates and multipliers."""
        v, current, remaining = self.potential, self.current, 1 - h * self.current.conductance
        for received, weight in self.reads:
            v.addmm_(received, weight, beta=remaining, alpha=h / current.epsilon)
            remaining = 1.0
        if current.tolerance > 0:
            self.renew(current)
            if not self.reads:
                v.mul_(remaining)
            v.add_(self.rates, alpha=h * current.leak)
        if self.steady is not None:
            v.add_(self.steady, alpha=h)
        if self.multiplier is None or self.slow is None or current.multiplier_rate is None:
            torch.clamp(v, 0, 1, out=self.rates)
            return
        v.sub_(self.multiplier, alpha=h)
        torch.clamp(v, min=0, out=self.rates)
        move_multiplier(self.slow, self.multiplier, self.rates, current.multiplier_rate)

    def renew(self, current: Current) -> None:
        """Drive and lateral current of the rates as they are, unless those of before serve as well."""
        if self.made_of is None:
            self.made_of, self.moved = self.rates.clone(), torch.empty_like(self.rates)
        elif float(torch.sub(self.rates, self.made_of, out=self.moved).abs_().max()) <= current.tolerance:
            return
        else:
            self.made_of.copy_(self.rates)
        base = torch.zeros_like(self.rates) if current.drive is None else current.drive
        self.steady = torch.addmm(base, self.made_of, current.inverse, alpha=current.gain)


def settle(layers: Sequence[Somata], steps: Sequence[float], watch: Watch | None = None) -> None:
    """Sweeps of the dynamics over all layers, from the input up, each seeing what those below have become.  [CIM 4.3]

    v ← v + h dv, then r = min(max(v, 0), 1), in place; potentials start from the rates. A sparse layer has
    r = max(v, 0), is inhibited by its multipliers q (m × 1), and moves them after its rates.
    """
    for layer in layers:
        layer.begin()
    for h in steps:
        for layer in layers:
            layer.sweep(h)
        if watch is not None:
            watch([layer.potential for layer in layers])


def move_multiplier(u: Float[Tensor, "m 1"], q: Float[Tensor, "m 1"], rates: Rates, rate: float) -> None:
    """u ← u + μ (q - u + Σ r - 1), q = max(u, 0), in place: the interneuron that keeps Σ r ≤ 1.  [CIM 4.6]"""
    u.add_(q - u + rates.sum(1, keepdim=True) - 1, alpha=rate)
    torch.clamp(u, min=0, out=q)
