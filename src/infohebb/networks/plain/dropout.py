"""Dropout, ordinary and alpha, whose cost on the CPU grows with the units dropped, not with the units there are."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError, is_number
from infohebb.functional.dropout import SATURATION, Struck, channels_first, strike
from infohebb.networks.plain import randomness

Values = Float[Tensor, "*shape"]


class Dropout(nn.Module):
    """Return the input with units dropped at random in train mode; in eval mode, the input itself.

    Plain dropout sets units to zero and divides the others by 1 - rate. Alpha dropout sets them to SELU's lower limit
    and then maps all so that mean 0 and variance 1 are kept. Inside `randomness.draws` the units dropped depend on the
    seed, the unit and the number of the draw; elsewhere on torch's global generator. They do not depend on the memory
    layout of a map.

    Args:
        rate: probability that a unit is dropped, at least 0 and below 1.
        alpha: alpha dropout, which is meant for SELU. Default False.

    Raises:
        MismatchError: for a rate out of range.
    """

    def __init__(self, rate: float, alpha: bool = False):
        super().__init__()
        if not is_number(rate) or not 0 <= rate < 1:
            raise MismatchError(
                f"dropout rate {rate!r} is no probability below 1; give a number from 0 on, such as 0.1"
            )
        self.rate, self.alpha = rate, alpha

    def forward(self, x: Values) -> Values:
        """Return x with units dropped, or x itself in eval mode."""
        if not self.training or self.rate == 0:
            return x
        return drop(x, self.rate, strike(x, self.rate, randomness.generator(x.device)), self.alpha)

    def extra_repr(self) -> str:
        """Return the settings as text."""
        return f"rate={self.rate}" + (", alpha=True" if self.alpha else "")


def drop(x: Values, rate: float, dropped: Struck, alpha: bool = False) -> Values:
    """Return x after dropout of the units given: a mask in the shape of x, or positions as `strike` counts them.

    The values are those of functional.dropout; autograd may pass, twice too.
    """
    scale = 1 / math.sqrt((1 - rate) * (1 + rate * SATURATION**2)) if alpha else 1 / (1 - rate)
    shift = -scale * SATURATION * rate if alpha else 0.0
    value = SATURATION * scale + shift if alpha else 0.0
    if dropped.dtype == torch.bool:
        return _scaled(x, scale, shift).masked_fill_(dropped, value)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        pixels = x.permute(0, 2, 3, 1)
        return _scaled(pixels.reshape(-1), scale, shift).index_fill_(0, dropped, value).view(pixels.shape).movedim(3, 1)
    positions = channels_first(dropped, x.shape) if x.dim() == 4 else dropped
    return _scaled(x.reshape(-1), scale, shift).index_fill_(0, positions, value).view(x.shape)


def _scaled(x: Tensor, scale: float, shift: float) -> Tensor:
    """Return scale x + shift as a tensor of its own, which may be filled in place, in one pass."""
    return torch.add(x.new_full((), shift), x, alpha=scale) if shift else x * scale
