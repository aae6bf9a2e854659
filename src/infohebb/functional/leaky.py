"""Leaky integrators: a potential that follows what drives it.

u (… n)  potential     k = step / time constant, the share of the way that one time step goes
"""

import torch
from jaxtyping import Float
from torch import Tensor

Potential = Float[Tensor, "*shape"]


def leaky_step(u: Potential, drive: Potential, k: float) -> Potential:
    """u + k (drive - u).  [WMH 7.1]"""
    return torch.lerp(u, drive, k)
