"""Predictive coding: each layer predicts the one above it, and values settle where the errors are small.

x (m × n_0)            input, predicts as it is     z_k (m × n_k)    values of layer k = 1 … L, sample by sample
W_k (n_{k+1} × n_k)    weights, k = 0 … L-1         b_k (n_{k+1})    biases
f                      rate of a value              r_k = f(z_k), r_0 = x
e_k = z_{k+1} - W_k r_k - b_k (m × n_{k+1})         the error of layer k's prediction

    E = Σ_k ‖e_k‖² [ + λ ‖z_L - y‖² ]
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional.nonlinearities import RELU, Nonlinearity
from infohebb.functional.products import Precision, product

Values = Float[Tensor, "m _"]


def sigmoid_gate(signal: Values, h: Values) -> Values:
    """Signal × h (1 - h)."""
    return torch.ops.aten.sigmoid_backward(signal, h)


SIGMOID = Nonlinearity(torch.sigmoid_, sigmoid_gate, increasing=True)
RATES = {"relu": RELU, "sigmoid": SIGMOID}


class Predictor(NamedTuple):
    """W_k and b_k from the input up, f, and the precision of products but those with the output's weights."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    rate: Nonlinearity
    precision: Precision = "fp32"

    def precisely(self, k: int) -> Precision:
        """The precision of products with W_k."""
        return "fp32" if k == len(self.weights) - 1 else self.precision


class Settled(NamedTuple):
    """Values z_1 … z_L, rates r_1 … r_{L-1} of those hidden, and errors e_0 … e_{L-1}."""

    values: list[Tensor]
    rates: list[Tensor]
    errors: list[Tensor]


def predict_next(rates: Values, k: int, predictor: Predictor) -> Values:
    """What layer k says of the next one: W_k r_k + b_k."""
    W, b, precision = predictor.weights[k], predictor.biases[k], predictor.precisely(k)
    if precision == "fp32":
        return torch.addmm(b, rates, W.T)
    return product(rates, W.T, precision).add_(b)


def sweep(x: Values, predictor: Predictor) -> list[Values]:
    """z_1 … z_L where no prediction errs: what a feedforward network computes, its output linear."""
    values = [predict_next(x, 0, predictor)]
    for k in range(1, len(predictor.weights)):
        values.append(predict_next(predictor.rate.apply_(values[-1].clone()), k, predictor))
    return values


def energy(
    x: Values, values: Sequence[Values], predictor: Predictor, wanted: Values | None = None, nudge: float = 0.0
) -> Float[Tensor, "m"]:
    """E of each sample, with λ = `nudge` where something is wanted."""
    errors = assess(predict_next(x, 0, predictor), values, predictor).errors
    total = torch.cat(errors, 1).square().sum(1)
    return total if wanted is None else total + nudge * (values[-1] - wanted).square().sum(1)


def assess(first: Values, values: Sequence[Values], predictor: Predictor) -> Settled:
    """Rates and errors at these values; `first` is what the input predicts."""
    rates = [predictor.rate.apply_(z.clone()) for z in values[:-1]]
    errors = [values[0] - first]
    for k, r in enumerate(rates, 1):
        errors.append(values[k] - predict_next(r, k, predictor))
    return Settled(list(values), rates, errors)


def settle_clamped(
    sweep_values: Sequence[Values], predictor: Predictor, wanted: Values, step: float, steps: int
) -> Settled:
    """From a sweep, its output then clamped to what is wanted: hidden z ← z - step ½ ∂E/∂z, all at once."""
    first, values = sweep_values[0], [*(z.clone() for z in sweep_values[:-1]), wanted]
    for _ in range(steps):
        descend(values[:-1], assess(first, values, predictor), predictor, step)
    return assess(first, values, predictor)


def settle_nudged(
    sweep_values: Sequence[Values], predictor: Predictor, wanted: Values, nudge: float, step: float, steps: int
) -> Settled:
    """From a sweep, its output free but nudged: every z ← z - step ∂E/∂z, all at once."""
    first, values = sweep_values[0], [z.clone() for z in sweep_values]
    for _ in range(steps):
        now = assess(first, values, predictor)
        pull = (values[-1] - wanted).mul_(nudge)
        descend(values, now, predictor, 2 * step)
        values[-1].sub_(pull, alpha=2 * step)
    return assess(first, values, predictor)


def descend(moving: Sequence[Values], now: Settled, predictor: Predictor, step: float) -> None:
    """Move z_1 … z_j, those that are given, by - step ½ ∂/∂z Σ‖e‖², in place."""
    for k, z in enumerate(moving, 1):
        z.sub_(now.errors[k - 1], alpha=step)
        if k < len(now.values):
            back = product(now.errors[k], predictor.weights[k], predictor.precisely(k))
            z.add_(predictor.rate.gate(back, now.rates[k - 1]), alpha=step)


def ends(x: Values, settled: Settled, scale: float) -> list[tuple[Values, Values]]:
    """What each layer's synapses learn from: r_k at their lower end, and -scale × e_k at their upper."""
    return [(pre, error * -scale) for pre, error in zip([x, *settled.rates], settled.errors, strict=True)]
