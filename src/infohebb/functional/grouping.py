"""Grouped variance, its power and centring, divisive normalisation, and the backward of each.

z (m × n)        activity            c         groups: consecutive blocks of s = n / c entries
zc (m × c × s)   z minus the mean of its group, sample by sample
u (m × c)        smoothed variance   v (m × c) its centred power: what the kernel sees
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Activity = Float[Tensor, "m *features"]
Signal = Float[Tensor, "m c"]


class Grouped(NamedTuple):
    """An activity cut into groups: centred (m × c × s) and the smoothed variance of each group (m × c)."""

    centred: Tensor
    variance: Tensor


def group(z: Activity, groups: int, delta: float = 1.0) -> Grouped:
    """Cut z into groups, centre each, and take its variance u = (delta + Σ zc²) / s.  [KIB eq. 13]"""
    blocks = z.reshape(len(z), groups, z.shape[1:].numel() // groups)
    centred = blocks - blocks.mean(-1, keepdim=True)
    variance = torch.linalg.vector_norm(centred, dim=-1).square().add_(delta).div_(blocks.shape[-1])
    return Grouped(centred, variance)


def group_signal(u: Signal, power: float) -> Signal:
    """v = u^power minus its mean over the groups.  [KIB eq. 14]"""
    raised = raise_to(u, power)
    return raised - raised.mean(-1, keepdim=True)


def raise_to(u: Signal, power: float) -> Signal:
    """u^power of what is not negative, by way of the logarithm, which is faster than a general power."""
    return u.log().mul_(power).exp_() if power else torch.ones_like(u)


def normalise_groups(grouped: Grouped, power: float) -> Float[Tensor, "m c s"]:
    """r = zc / u^power.  [KIB eq. 17]"""
    return grouped.centred * raise_to(grouped.variance, -power).unsqueeze(-1)


def divisive_normalisation(z: Activity, groups: int, power: float = 0.2, delta: float = 1.0) -> Activity:
    """z with each group centred and divided by a power of its variance, in the shape of z."""
    return normalise_groups(group(z, groups, delta), power).reshape(z.shape)


def divisive_normalisation_backward(
    error: Activity, z: Activity, groups: int, power: float = 0.2, delta: float = 1.0
) -> Activity:
    """dL/dz from `error` = dL/dr: t minus its group mean, t = g u^-p - (2p/s) (Σ g zc) u^(-p-1) zc."""
    centred, u = group(z, groups, delta)
    g = error.reshape(centred.shape)
    overlap = (g * centred).sum(-1) * u.pow(-power - 1) * (2 * power / centred.shape[-1])
    t = g * u.pow(-power).unsqueeze(-1) - overlap.unsqueeze(-1) * centred
    return (t - t.mean(-1, keepdim=True)).reshape(z.shape)


def group_factor(v_gradient: Signal, power: float, group_size: int) -> Signal:
    """dL/dv as a factor for each group's members: (2 power / s) dL/dv, which multiplies u^(power-1) zc.

    Neither centring needs a projection, as long as each row of dL/dv sums to zero: that of Q v does, because v's do.
    """
    return v_gradient * (2 * power / group_size)
