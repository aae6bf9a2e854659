"""A reservoir of leaky rate units, and how its linear readout learns: least mean squares, recursive least squares.

u (n)  potential        r = tanh(u)  rates, of the potential before the step        o = r W_o  (p)  the readout
s (i)  input            u ← u + k (λ r W_r + s W_i + o W_f - u)                     e = o - target

Weights go from rows to columns. Noise, where there is any, is uniform and added to r and o.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional.leaky import leaky_step

State = Float[Tensor, "n"]
Signal = Float[Tensor, "p"]


class Weights(NamedTuple):
    """Fixed: recurrent W_r (n × n), from the input W_i (i × n), from the readout W_f (p × n)."""

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
    s: Float[Tensor, "i"],
    weights: Weights,
    readout: Float[Tensor, "n p"],
    strength: float,
    k: float,
    noise: tuple[State | float, Signal | float] = (0.0, 0.0),
) -> Moment:
    """One time step of the reservoir; rates and output are those of the potential before it."""
    r = torch.tanh(u) + noise[0]
    o = r @ readout + noise[1]
    drive = strength * (r @ weights.recurrent) + s @ weights.inputs + o @ weights.feedback
    return Moment(leaky_step(u, drive, k), r, o)


def least_mean_squares_(readout: Float[Tensor, "n p"], rates: State, error: Signal, rate: float) -> None:
    """W_o ← W_o - rate rᵀ e, in place: the delta rule."""
    readout.addr_(rates, error, alpha=-rate)


def recursive_least_squares_(
    readout: Float[Tensor, "n p"], inverse: Float[Tensor, "n n"], rates: State, error: Signal
) -> None:
    """g = P r, c = 1 / (1 + rᵀg); P ← P - c g gᵀ, W_o ← W_o - c g eᵀ, in place: FORCE.

    P, at first I / α, is the inverse of rᵀr summed over all steps, plus α on its diagonal.
    """
    g = inverse @ rates
    c = float(1 / (1 + rates @ g))
    inverse.addr_(g, g, alpha=-c)
    readout.addr_(g, error, alpha=-c)
