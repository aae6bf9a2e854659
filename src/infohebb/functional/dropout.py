"""Dropout, ordinary and alpha, whose cost is in proportion to the units dropped, not to the units there are."""

import math
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from infohebb.functional.nonlinearities import SELU_ALPHA, SELU_SCALE

Values = Float[Tensor, "*shape"]
Struck = Int64[Tensor, "drops"] | Bool[Tensor, "*shape"]
SATURATION = -SELU_SCALE * SELU_ALPHA  # SELU's value at minus infinity: what alpha dropout drops to


def dropout(x: Values, rate: float, struck: Struck | None = None) -> Values:
    """Each unit set to zero with probability `rate`, the others divided by 1 - rate."""
    return _fill_(x * (1 / (1 - rate)), 0.0, strike(x, rate) if struck is None else struck)


def dropout_backward(error: Values, rate: float, struck: Struck) -> Values:
    """dL/dx from `error` = dL/d(output) of `dropout`."""
    return _fill_(error * (1 / (1 - rate)), 0.0, struck)


def alpha_dropout(x: Values, rate: float, struck: Struck | None = None) -> Values:
    """Each unit set to SELU's saturation with probability `rate`, then all mapped to keep mean 0 and variance 1."""
    scale = _alpha_scale(rate)
    shift = -scale * SATURATION * rate
    struck = strike(x, rate) if struck is None else struck
    return _fill_(torch.add(x.new_tensor(shift), x, alpha=scale), SATURATION * scale + shift, struck)


def alpha_dropout_backward(error: Values, rate: float, struck: Struck) -> Values:
    """dL/dx from `error` = dL/d(output) of `alpha_dropout`."""
    return _fill_(error * _alpha_scale(rate), 0.0, struck)


def _alpha_scale(rate: float) -> float:
    return 1 / math.sqrt((1 - rate) * (1 + rate * SATURATION**2))


def strike(x: Values, rate: float, generator: torch.Generator | None = None) -> Struck:
    """Which units of x are dropped, each with probability `rate`: a mask, but on the CPU their positions.

    Maps count their units pixel by pixel, however they lie in memory, so that a seed drops the same ones. The numbers
    come from `generator`, on the device of x, or from torch's global one.
    """
    if x.device.type == "cpu":
        return random_positions(x.numel(), rate, generator)
    return torch.rand(x.shape, generator=generator, device=x.device) < rate


def mask_of(
    shape: tuple[int, ...], rate: float, generator: torch.Generator | None, device: torch.device
) -> Bool[Tensor, "*shape"]:
    """The same units as a mask of that shape, also on the CPU: for code that wants a fixed number of operations."""
    if device.type != "cpu":
        return torch.rand(shape, generator=generator, device=device) < rate
    flat = torch.zeros(math.prod(shape), dtype=torch.bool)
    flat[random_positions(len(flat), rate, generator)] = True
    if len(shape) != 4:
        return flat.view(shape)
    return flat.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def _fill_(x: Values, value: float, struck: Struck) -> Values:
    """Set the units struck to `value`, in place."""
    if struck.dtype == torch.bool:
        return x.masked_fill_(struck, value)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x.permute(0, 2, 3, 1).view(-1).index_fill_(0, struck, value)
    else:
        x.view(-1).index_fill_(0, channels_first(struck, x.shape) if x.dim() == 4 else struck, value)
    return x


def channels_first(positions: Int64[Tensor, "drops"], shape: torch.Size) -> Int64[Tensor, "drops"]:
    """Positions in maps (m × c × h × w) counted pixel by pixel, as counted where they lie channel by channel."""
    channels, pixels = shape[1], shape[2] * shape[3]
    inside = positions % (channels * pixels)
    return positions - inside + inside % channels * pixels + inside.div(channels, rounding_mode="floor")


def random_positions(count: int, rate: float, generator: torch.Generator | None = None) -> Int64[Tensor, "drops"]:
    """Positions of the successes of `count` Bernoulli(rate) trials, from the geometric gaps between them."""
    if rate == 0:
        return torch.empty(0, dtype=torch.int64)
    draws = int(count * rate + 6 * math.sqrt(count * rate) + 8)
    cumulate = _cumulate if generator is None else partial(_cumulate, generator=generator)
    positions = cumulate(draws, rate, -1)
    while positions[-1] < count - 1:
        positions = torch.cat([positions, cumulate(draws, rate, int(positions[-1]))])
    return positions[: int(torch.searchsorted(positions, count))]


def _cumulate(draws: int, rate: float, start: int, generator: torch.Generator | None = None) -> Int64[Tensor, "draws"]:
    """Positions after `start`, a geometric gap apart: ⌈log(1 - v) / log(1 - rate)⌉ for v uniform in [0, 1)."""
    v = torch.rand(draws, generator=generator, dtype=torch.float64)
    return v.neg_().log1p_().div_(math.log1p(-rate)).ceil_().cumsum(0).add_(start).long()
