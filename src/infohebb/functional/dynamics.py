"""Neurons with three compartments: dendrites below (basal) and above (apical) a soma whose potential v makes a rate r.

rates (m × N)        of all layers side by side, samples down; a layer owns some of the columns
potential (m × n)    of one layer's somata, or of a dendrite
feedforward W (n × n')   from the layer below, onto basal dendrites
feedback V (n × n'')     from the layer above, onto apical dendrites
inverse B (n × n)        the layer's inverse correlation: lateral inhibition, and autapses
ε, γ, g, β               prediction's variance, entropy gain, leak, nudge
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

LINE = 16  # numbers
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
    """2 / (2/ε + g): a hidden layer's explicit Euler step diverges from here on.  [CIM 4.5]"""
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
    """What drives one layer's somata, gathered so that a sweep is one product: dv = r[window] K + drive - κ v.

    That is dv = (v_B - v)/ε + c (v_A - v) - g v, c being 1/ε in a hidden layer and 1 at the output. `weights` K
    (columns of the window × n) holds Wᵀ/ε of the layer below, the lateral 2γ B + g I (γ B + (g - β) I at the output),
    and Vᵀ/ε of the layer above; what is constant while the network settles, such as W x/ε, is the `drive` (m × n).
    `multiplier_rate` is that of a sparse layer, None for one whose rates live in [0, 1]. Weights in bf16 have their
    products in bf16; what a neuron receives of its own rate, `autapse`, is then apart from them.
    """

    window: slice
    own: slice
    weights: Tensor
    drive: Tensor | None
    conductance: float
    multiplier_rate: float | None = None
    autapse: float = 0.0


def aligned(rows: int, columns: int, like: Tensor) -> Tensor:
    """An empty matrix whose rows begin on cache lines: products with few samples are a tenth faster for it."""
    return like.new_empty(rows, -(-columns // LINE) * LINE)[:, :columns]


def hidden_weights(
    below: Tensor | None, inverse: Tensor, feedback: Tensor, *, epsilon: float, gain: float, leak: float
) -> Tensor:
    """K of a hidden layer; there is no `below` where that is the input, which is constant."""
    n, first = len(inverse), 0 if below is None else below.shape[1]
    weights = aligned(first + n + feedback.shape[1], n, inverse)
    if below is not None:
        torch.div(below.mT, epsilon, out=weights[:first])
    lateral = torch.mul(inverse, 2 * gain, out=weights[first : first + n])
    lateral.diagonal().add_(leak)
    torch.div(feedback.mT, epsilon, out=weights[first + n :])
    return weights


def output_weights(below: Tensor | None, inverse: Tensor, *, epsilon: float, gain: float, leak: float) -> Tensor:
    """K of the output, where it is not nudged."""
    n, first = len(inverse), 0 if below is None else below.shape[1]
    weights = aligned(first + n, n, inverse)
    if below is not None:
        torch.div(below.mT, epsilon, out=weights[:first])
    torch.mul(inverse, gain, out=weights[first:]).diagonal().add_(leak)
    return weights


def nudged(output: Current, wanted: Tensor, nudge: float) -> Current:
    """The output's current with -β (r - y) in it."""
    weights = output.weights.clone()
    weights[-wanted.shape[1] :].diagonal().sub_(nudge)
    drive = nudge * wanted if output.drive is None else output.drive + nudge * wanted
    return output._replace(weights=weights, drive=drive)


def settle(
    rates: Float[Tensor, "m N"],
    currents: Sequence[Current],
    steps: Sequence[float],
    multipliers: Sequence[Tensor | None],
    watch: Watch | None = None,
) -> None:
    """Sweeps of the dynamics over all layers, from the input up, each seeing what those below have become.  [CIM 4.3]

    v ← v + h dv, then r = min(max(v, 0), 1), in place; potentials start from the rates. A sparse layer has
    r = max(v, 0), is inhibited by its `multipliers` q (m × 1), and moves them after its rates.
    """
    somata = [rates[:, current.own].clone() for current in currents]
    received = [rates[:, current.window] for current in currents]
    made = [rates[:, current.own] for current in currents]
    slow = [q if q is None else q.clone() for q in multipliers]
    for h in steps:
        for current, v, r_in, r, q, u in zip(currents, somata, received, made, multipliers, slow, strict=True):
            if current.weights.dtype == v.dtype:
                v.addmm_(r_in, current.weights, beta=1 - h * current.conductance, alpha=h)
            else:
                received_coarsely = r_in.to(current.weights.dtype) @ current.weights
                v.mul_(1 - h * current.conductance).add_(received_coarsely, alpha=h).add_(r, alpha=h * current.autapse)
            if current.drive is not None:
                v.add_(current.drive, alpha=h)
            if q is None or u is None or current.multiplier_rate is None:
                torch.clamp(v, 0, 1, out=r)
                continue
            v.sub_(q, alpha=h)
            torch.clamp(v, min=0, out=r)
            move_multiplier(u, q, r, current.multiplier_rate)
        if watch is not None:
            watch(somata)


def move_multiplier(u: Float[Tensor, "m 1"], q: Float[Tensor, "m 1"], rates: Rates, rate: float) -> None:
    """u ← u + μ (q - u + Σ r - 1), q = max(u, 0), in place: the interneuron that keeps Σ r ≤ 1.  [CIM 4.6]"""
    u.add_(q - u + rates.sum(1, keepdim=True) - 1, alpha=rate)
    torch.clamp(u, min=0, out=q)
