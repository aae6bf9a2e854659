"""A reservoir of leaky rate units, and how its linear readout learns: least mean squares, recursive least squares,
ridge regression.

u (n)  potential        r = tanh(u)  rates, of the potential before the step        o = r W_o  (p)  the readout
s (i)  input            u ← u + k (λ r W_r + s W_i + o W_f - u)                     e = o - target

Weights go from rows to columns. Noise, where there is any, is uniform and added to r and o. Dots stand for several
trajectories at once. The readout may read the last units only: those from `first` on.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

State = Float[Tensor, "*runs n"]
Signal = Float[Tensor, "*runs p"]
Readout = Float[Tensor, "r p"]
PUBLISHED, INTENDED = 0.9, 0.1  # the shares of recurrent weights that are not zero


class Weights(NamedTuple):
    """Fixed: recurrent W_r (n × n), dense or sparse, from the input W_i (i × n), from the readout W_f (p × n)."""

    recurrent: Float[Tensor, "n n"]
    inputs: Float[Tensor, "i n"]
    feedback: Float[Tensor, "p n"]


class Moment(NamedTuple):
    """One time step: the potential after it, and the rates and the output that were used in it."""

    potential: State
    rates: State
    output: Signal


def advance(
    u: State,
    s: Float[Tensor, "*runs i"],
    weights: Weights,
    readout: Readout,
    strength: float,
    k: float | Float[Tensor, "n"],
    noise: tuple[Tensor | float, Tensor | float] = (0.0, 0.0),
) -> Moment:
    """One time step of the reservoir; rates and output are those of the potential before it.  [WMH 8.2]"""
    return advance_held(u, s @ weights.inputs, weights, readout, strength, k, noise)


def advance_held(
    u: State,
    received: State,
    weights: Weights,
    readout: Readout,
    strength: float,
    k: float | Float[Tensor, "n"],
    noise: tuple[Tensor | float, Tensor | float] = (0.0, 0.0),
) -> Moment:
    """`advance` where s W_i is known already, as while a stimulus is held."""
    r = torch.tanh(u) + noise[0]
    o = r[..., len(weights.recurrent) - len(readout) :] @ readout + noise[1]
    drive = strength * (r @ weights.recurrent) + received + o @ weights.feedback
    return Moment(torch.lerp(u, drive, k), r, o)


def least_mean_squares_(readout: Readout, rates: Float[Tensor, "r"], error: Float[Tensor, "p"], rate: float) -> None:
    """W_o ← W_o - rate rᵀ e, in place: the delta rule.  [WMH 8.3]"""
    readout.addr_(rates, error, alpha=-rate)


def recursive_least_squares_(
    readout: Readout, inverse: Float[Tensor, "r r"], rates: Float[Tensor, "r"], error: Float[Tensor, "p"]
) -> None:
    """g = P r, c = 1 / (1 + rᵀg); P ← P - c g gᵀ, W_o ← W_o - c g eᵀ, in place: FORCE.  [WMH 8.4]

    P, at first I / α, is the inverse of rᵀr summed over all steps, plus α on its diagonal.
    """
    g = inverse @ rates
    c = float(1 / (1 + rates @ g))
    inverse.addr_(g, g, alpha=-c)
    readout.addr_(g, error, alpha=-c)


def ridge(rates: Float[Tensor, "m r"], targets: Float[Tensor, "m p"], penalties: Sequence[float]) -> Iterator[Readout]:
    """(RᵀR + α I)⁻¹ RᵀT for each α, from one decomposition of the smaller of RᵀR and RRᵀ."""
    tall = len(rates) >= rates.shape[1]
    values, vectors = torch.linalg.eigh(rates.T @ rates if tall else rates @ rates.T)
    values = values.clamp(min=0)[:, None]
    if tall:
        left, right = vectors, vectors.T @ (rates.T @ targets)
    else:
        left, right = rates.T @ vectors, vectors.T @ targets
    for penalty in penalties:
        yield left @ (right / (values + penalty))


def explained(outputs: Float[Tensor, "m p"], targets: Float[Tensor, "m p"]) -> Float[Tensor, "p"]:
    """R² of each output: 1 - Σ (o - t)² / Σ (t - t̄)², over the rows.  [WMH 8.5]"""
    return 1 - (outputs - targets).square().sum(0) / (targets - targets.mean(0)).square().sum(0)


def random_recurrent(n: int, density: float = INTENDED, chance: torch.Generator | None = None) -> Float[Tensor, "n n"]:
    """Normal weights of variance 1 / (0.1 n), a share `density` kept: a radius of about √(density / 0.1).  [WMH 8.1]

    The published name and variance mean a density of 0.1, and so a spectral radius of one; its code keeps 0.9.
    """
    kept = torch.rand(n, n, generator=chance) < density
    return torch.randn(n, n, generator=chance).mul_((INTENDED * n) ** -0.5).mul_(kept)


def spectral_radius(W: Float[Tensor, "n n"]) -> float:
    """The largest absolute eigenvalue."""
    return torch.linalg.eigvals(W).abs().max().item()
