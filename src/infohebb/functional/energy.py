"""Networks with an energy: each neuron goes down it, a synapse is used both ways, rates stay between 0 and 1.

x = s_0 (m × n_0)      input                        s_k (m × n_k)      rates of layer k = 1 … L, sample by sample
W_k (n_{k+1} × n_k)    weights from s_k to s_{k+1}  b_k (n_{k+1})      biases
M_k (n_k × n_k)        lateral weights among the neurons of a hidden layer, symmetric; there may be none
y (m × n_L)            what the output is to say    β                  how strongly it is nudged there

    Φ = Σ_k ½‖s_k‖² - Σ_k s_{k+1}·(W_k s_k + b_k) + Σ_hidden ½ s_k·M_k s_k + β‖s_L - y‖²
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional.products import Precision, product

Rates = Float[Tensor, "m _"]


class Synapses(NamedTuple):
    """W_k and b_k from the input up, and M_k of each hidden layer, or none."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    laterals: Sequence[Tensor] = ()


def energy(
    x: Rates, states: Sequence[Rates], synapses: Synapses, wanted: Rates | None = None, nudge: float = 0.0
) -> Float[Tensor, "m"]:
    """Φ of each sample, its nudge included where there is one.  [CIM 6.1]"""
    total = x.new_zeros(len(x))
    for (below, s), W, b in zip(pairwise([x, *states]), synapses.weights, synapses.biases, strict=True):
        total = total + (s * (s / 2 - below @ W.T - b)).sum(1)
    for s, M in zip(states[:-1], synapses.laterals, strict=False):
        total = total + (s * (s @ M)).sum(1) / 2
    return total if wanted is None else total + nudge * (states[-1] - wanted).square().sum(1)


def drive_from_input(
    x: Rates, weight: Float[Tensor, "n inputs"], bias: Float[Tensor, "n"], precision: Precision = "fp32"
) -> Rates:
    """What the input sends the first layer; it stays while that settles."""
    return product(x, weight.T, precision).add_(bias)


def settle(
    drive: Rates,
    states: Sequence[Rates],
    synapses: Synapses,
    step: float,
    steps: int,
    wanted: Rates | None = None,
    nudge: float = 0.0,
    precision: Precision = "fp32",
) -> list[Rates]:
    """Where rates are after so many synchronous steps s ← clip(s - step ∂Φ/∂s, 0, 1), `states` left alone.  [CIM 6.2]

    `drive` is what the input sends. All layers lie side by side in one tensor, of which the result holds views.
    """
    rates = torch.cat(list(states), 1)
    field = torch.empty_like(rates)
    sizes = [s.shape[1] for s in states]
    layers, fields = rates.split(sizes, 1), field.split(sizes, 1)
    received, own = incoming(layers, synapses, precision), [drive, *synapses.biases[1:]]
    for _ in range(steps):
        for driven, base, sources in zip(fields, own, received, strict=True):
            fill_field(driven, base, sources)
        if wanted is not None and nudge != 0:
            pull(fields[-1], layers[-1], wanted, nudge)
        rates.lerp_(field, step).clamp_(0, 1)
    return list(layers)


class Source(NamedTuple):
    """Where some of what a layer receives comes from: sign × rates × matrix."""

    rates: Tensor
    matrix: Tensor
    sign: int
    precision: Precision


def incoming(layers: Sequence[Rates], synapses: Synapses, precision: Precision = "fp32") -> list[list[Source]]:
    """Of each layer, in s - ∂Φ/∂s, all but the input's drive, its biases and the nudge.

    Products with the output's weights are in full whatever the precision.
    """
    weights, laterals, top = synapses.weights, synapses.laterals, len(layers) - 1
    each: list[Precision] = ["fp32" if k == top else precision for k in range(len(layers))]
    received: list[list[Source]] = [[] for _ in layers]
    for k in range(1, len(layers)):
        received[k].append(Source(layers[k - 1], weights[k].T, 1, each[k]))
        received[k - 1].append(Source(layers[k], weights[k], 1, each[k]))
    for k, lateral in enumerate(laterals):
        received[k].append(Source(layers[k], lateral, -1, precision))
    return received


def fill_field(field: Rates, base: Float[Tensor, "*m n"], sources: Sequence[Source]) -> None:
    """Write base + Σ ± rates × matrix into `field`."""
    if not sources:
        field.copy_(base)
    for rates, matrix, sign, precision in sources:
        if precision == "fp32" or rates.dtype != torch.float32:
            torch.addmm(base, rates, matrix, alpha=sign, out=field)
        else:
            torch.add(base, product(rates, matrix, precision), alpha=sign, out=field)
        base = field


def pull(field: Rates, state: Rates, wanted: Rates, nudge: float) -> None:
    """Add what the nudge does to the output, -∂/∂s β‖s - y‖², to its field."""
    field.add_(wanted, alpha=2 * nudge).sub_(state, alpha=2 * nudge)


class Ends(NamedTuple):
    """What synapses learn from: rows (r × n_k) at their lower end, and rows (r × n_{k+1}) of error at their upper."""

    pre: Tensor
    error: Tensor


def contrast(x: Rates, free: Sequence[Rates], nudged: Sequence[Rates], nudge: float) -> list[Ends]:
    """Both phases of each layer's synapses: errorᵀ pre is 1/(β m) Σ ( s_{k+1}ᶠ s_kᶠᵀ - s_{k+1}ⁿ s_kⁿᵀ ).  [CIM 6.3]

    That is how the weights change (Φⁿ - Φᶠ)/(β m). Phases lie one after the other, the nudged one first. The input is
    the same in both, so that of the first layer is one phase, of the rates' difference.
    """
    scale = 1 / (nudge * len(x))
    ends = [Ends(x, (free[0] - nudged[0]) * scale)]
    for below, above in pairwise(zip(free, nudged, strict=True)):
        ends.append(Ends(torch.cat([below[1], below[0]]), torch.cat([above[1] * -scale, above[0] * scale])))
    return ends


def similarity(nudged: Rates, nudge: float) -> Ends:
    """A hidden layer's lateral synapses: errorᵀ pre is -1/(2β m) Σ sⁿ sⁿᵀ.  [CIM 6.4]"""
    return Ends(nudged.contiguous(), nudged * (-0.5 / (nudge * len(nudged))))
