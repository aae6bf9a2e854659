"""Leaky integrators: a potential that follows what drives it, and running averages of what passes.

u (… n)  potential     k = step / time constant, the share of the way that one time step goes
"""

import torch
from jaxtyping import Float
from torch import Tensor

Potential = Float[Tensor, "*shape"]


def leaky_step(u: Potential, drive: Potential, k: float) -> Potential:
    """u + k (drive - u)."""
    return torch.lerp(u, drive, k)


def follow_(average: Potential, value: Potential, rate: float) -> Potential:
    """The running average, moved in place by `rate` of the way to the value."""
    return average.lerp_(value, rate)
