"""Nonlinearities, each with its derivative read from the activity alone.

a  pre-activation     h = f(a), written over a     gate(signal, h) = signal × f'(a)
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772

Values = Float[Tensor, "*shape"]


class Nonlinearity(NamedTuple):
    """h = apply_(a), which may overwrite a, and gate(signal, h) = signal × f'(a).

    `self_normalising` asks for alpha dropout. One that is `increasing` wherever its slope is not zero keeps a maximum
    where it is, so that it may be taken first: there are fewer values then.
    """

    apply_: Callable[[Tensor], Tensor]
    gate: Callable[[Tensor, Tensor], Tensor]
    self_normalising: bool = False
    increasing: bool = False


def leaky_relu_gate(signal: Values, h: Values, slope: float) -> Values:
    """Signal where h > 0, slope × signal elsewhere."""
    return torch.ops.aten.leaky_relu_backward(signal, h, slope, True)


def relu_gate(signal: Values, h: Values) -> Values:
    """Signal where h > 0, zero elsewhere."""
    return torch.ops.aten.threshold_backward(signal, h, 0)


def selu_gate(signal: Values, h: Values) -> Values:
    """Signal × λ where h > 0, signal × (h + λα) elsewhere."""
    return torch.ops.aten.elu_backward(signal, SELU_ALPHA, SELU_SCALE, 1, True, h)


def tanh_gate(signal: Values, h: Values) -> Values:
    """Signal × (1 - h²)."""
    return torch.ops.aten.tanh_backward(signal, h)


def pass_through(values: Values) -> Values:
    """The identity."""
    return values


def pass_signal(signal: Values, h: Values) -> Values:
    """Derivative one."""
    del h
    return signal


def leaky_relu(slope: float = 0.01) -> Nonlinearity:
    """Leaky ReLU.  Raises ValueError for a slope that is not above zero: f' could not be read from h."""
    if not 0 < slope < math.inf:
        raise ValueError(f"leaky ReLU needs a slope above 0, got {slope}; use relu for 0")
    in_place = partial(torch.nn.functional.leaky_relu_, negative_slope=slope)
    return Nonlinearity(in_place, partial(leaky_relu_gate, slope=slope), increasing=True)


RELU = Nonlinearity(torch.relu_, relu_gate, increasing=True)
SELU = Nonlinearity(torch.selu_, selu_gate, self_normalising=True, increasing=True)
TANH = Nonlinearity(torch.tanh_, tanh_gate, increasing=True)
IDENTITY = Nonlinearity(pass_through, pass_signal, increasing=True)
