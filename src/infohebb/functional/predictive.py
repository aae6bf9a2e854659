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

from infohebb.functional.energy import Source, fill_field
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
    """z_1 … z_L where no prediction errs: what a feedforward network computes, its output linear.  [CIM 7.1]"""
    values = [predict_next(x, 0, predictor)]
    for k in range(1, len(predictor.weights)):
        values.append(predict_next(predictor.rate.apply_(values[-1].clone()), k, predictor))
    return values


def energy(
    x: Values, values: Sequence[Values], predictor: Predictor, wanted: Values | None = None, nudge: float = 0.0
) -> Float[Tensor, "m"]:
    """E of each sample, with λ = `nudge` where something is wanted.  [CIM 7.2]"""
    errors = assess(predict_next(x, 0, predictor), values, predictor).errors
    total = torch.cat(errors, 1).square().sum(1)
    return total if wanted is None else total + nudge * (values[-1] - wanted).square().sum(1)


def assess(first: Values, values: Sequence[Values], predictor: Predictor) -> Settled:
    """Rates and errors at these values; `first` is what the input predicts."""
    now = lay_out(values)
    write_errors(now, first, predictor)
    return settled_of(now)


def settle_clamped(
    sweep_values: Sequence[Values], predictor: Predictor, wanted: Values, step: float, steps: int
) -> Settled:
    """From a sweep, its output then clamped to what is wanted: hidden z ← z - step ½ ∂E/∂z, all at once.  [CIM 7.3]"""
    now = lay_out([*sweep_values[:-1], wanted])
    for _ in range(steps):
        write_errors(now, sweep_values[0], predictor)
        descend(now, predictor, step, clamped=True)
    write_errors(now, sweep_values[0], predictor)
    return settled_of(now)


def settle_nudged(
    sweep_values: Sequence[Values], predictor: Predictor, wanted: Values, nudge: float, step: float, steps: int
) -> Settled:
    """From a sweep, its output free but nudged: every z ← z - step ∂E/∂z, all at once.  [CIM 7.4]"""
    now = lay_out(sweep_values)
    for _ in range(steps):
        write_errors(now, sweep_values[0], predictor)
        now.values.layers[-1].lerp_(wanted, 2 * step * nudge)
        descend(now, predictor, 2 * step)
    write_errors(now, sweep_values[0], predictor)
    return settled_of(now)


class SideBySide(NamedTuple):
    """Layers in one tensor (m × Σ n_k), so that few kernels move them, and views of each."""

    together: Tensor
    layers: Sequence[Tensor]


class Course(NamedTuple):
    """Values on their way, and room for what is written at each step: errors, rates, and what comes back of errors."""

    values: SideBySide
    errors: SideBySide
    rates: SideBySide  # of hidden layers only, as what comes back
    back: SideBySide


def lay_out(values: Sequence[Values]) -> Course:
    """Copies of the values, and empty room for the rest."""
    sizes = [z.shape[1] for z in values]
    together = torch.cat(list(values), 1)
    hidden = together[:, : sum(sizes[:-1])]
    rooms = [(together, sizes), (torch.empty_like(together), sizes)]
    rooms += [(torch.empty_like(hidden), sizes[:-1]) for _ in range(2)]
    return Course(*(SideBySide(room, room.split(split, 1)) for room, split in rooms))


def write_errors(now: Course, first: Values, predictor: Predictor) -> None:
    """Write rates and errors at these values."""
    rates, errors = now.rates.together, now.errors.together
    predictor.rate.apply_(rates.copy_(now.values.together[:, : rates.shape[1]]))
    now.errors.layers[0].copy_(first)
    for k, r in enumerate(now.rates.layers, 1):
        W, b = predictor.weights[k], predictor.biases[k]
        fill_field(now.errors.layers[k], b, [Source(r, W.T, 1, predictor.precisely(k))])
    torch.sub(now.values.together, errors, out=errors)


def descend(now: Course, predictor: Predictor, step: float, *, clamped: bool = False) -> None:
    """Move all values, but the output's if that is clamped, by -step ½ ∂/∂z Σ‖e‖², from the errors as written."""
    for k, back in enumerate(now.back.layers, 1):
        e, W, precision = now.errors.layers[k], predictor.weights[k], predictor.precisely(k)
        if precision == "fp32":
            torch.mm(e, W, out=back)
        else:
            back.copy_(product(e, W, precision))
    values, hidden = now.values.together, now.rates.together.shape[1]
    moving = hidden if clamped else values.shape[1]
    values[:, :moving].sub_(now.errors.together[:, :moving], alpha=step)
    values[:, :hidden].add_(predictor.rate.gate(now.back.together, now.rates.together), alpha=step)


def settled_of(now: Course) -> Settled:
    """Where they are."""
    return Settled(*(list(part.layers) for part in (now.values, now.rates, now.errors)))


def ends(x: Values, settled: Settled, scale: float) -> list[tuple[Values, Values]]:
    """What each layer's synapses learn from: r_k at their lower end, and -scale × e_k at their upper."""
    return [(pre, error * -scale) for pre, error in zip([x, *settled.rates], settled.errors, strict=True)]
