"""How one update lies to another: the angle between them, and the ratio of their norms."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Update = Float[Tensor, "*shape"]
Number = Float64[Tensor, ""]


def angle(a: Update, b: Update) -> Number:
    """Degrees, 0 to 180, between a and b, each one long vector; NaN where one is zero and so has no direction.

    Twice the angle whose tangent is |â - b̂| / |â + b̂|, in double precision: the arccosine of an inner product would
    lose half the digits near 0 and 180.
    """
    u, v = _unit(a), _unit(b)
    return torch.rad2deg(2 * torch.atan2((u - v).norm(), (u + v).norm()))


def norm_ratio(a: Update, b: Update) -> Number:
    """|a| / |b|, in double precision; infinite where b alone is zero, NaN where both are."""
    return a.double().norm() / b.double().norm()


def _unit(a: Tensor) -> Tensor:
    a = a.double().flatten()
    return a / a.norm()
