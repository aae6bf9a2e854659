"""Dropout, ordinary and alpha, whose cost is in proportion to the units dropped, not to the units there are."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from infohebb.functional.nonlinearities import SELU_ALPHA, SELU_SCALE

Values = Float[Tensor, "*shape"]
SATURATION = -SELU_SCALE * SELU_ALPHA  # SELU's value at minus infinity: what alpha dropout drops to


def dropout(x: Values, rate: float) -> Values:
    """Each unit set to zero with probability `rate`, the others divided by 1 - rate."""
    return fill_random_units_(x * (1 / (1 - rate)), rate, 0.0)


def alpha_dropout(x: Values, rate: float) -> Values:
    """Each unit set to SELU's saturation with probability `rate`, then all mapped to keep mean 0 and variance 1."""
    scale = 1 / math.sqrt((1 - rate) * (1 + rate * SATURATION**2))
    shift = -scale * SATURATION * rate
    return fill_random_units_((x * scale).add_(shift), rate, SATURATION * scale + shift)


def fill_random_units_(x: Values, rate: float, value: float) -> Values:
    """Set each unit of x (contiguous) to `value` with probability `rate`, independently and in place."""
    if x.device.type == "cpu":
        x.view(-1).index_fill_(0, random_positions(x.numel(), rate), value)
        return x
    return x.masked_fill_(torch.rand_like(x) < rate, value)


def random_positions(count: int, rate: float) -> Int64[Tensor, "drops"]:
    """Positions of the successes of `count` Bernoulli(rate) trials, from the geometric gaps between them."""
    if rate == 0:
        return torch.empty(0, dtype=torch.int64)
    draws = int(count * rate + 6 * math.sqrt(count * rate) + 8)
    positions = _cumulate(draws, rate, -1)
    while positions[-1] < count - 1:
        positions = torch.cat([positions, _cumulate(draws, rate, int(positions[-1]))])
    return positions[: int(torch.searchsorted(positions, count))]


def _cumulate(draws: int, rate: float, start: int) -> Int64[Tensor, "draws"]:
    """Positions after `start`, a geometric gap apart."""
    return torch.empty(draws, dtype=torch.int64).geometric_(rate).cumsum(0).add_(start)
