"""Grouped variance, its power and centring, divisive normalisation, and the backward of each.

z (m × n)        activity            c         groups: consecutive blocks of s = n / c entries
zc (m × c × s)   z minus the mean of its group, sample by sample (of a map m × c × channels × h × w)
u (m × c)        smoothed variance   v (m × c) its centred power: what the kernel sees
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Activity = Float[Tensor, "m *features"]
Signal = Float[Tensor, "m c"]


class Grouped(NamedTuple):
    """An activity cut into groups: zc / √u of each member (m × c × s), and each group's smoothed variance (m × c)."""

    standardised: Tensor
    variance: Tensor

    @property
    def size(self) -> int:
        """Members of a group."""
        return self.standardised.shape[2:].numel()


def cut(z: Activity, groups: int) -> Float[Tensor, "m c *members"]:
    """z by groups; of a map with whole channels in each group it is a view, however the map lies in memory."""
    if z.dim() == 4 and z.shape[1] % groups == 0:
        return z.unflatten(1, (groups, -1))
    return z.reshape(len(z), groups, z.shape[1:].numel() // groups)


def over_members(values: Signal, blocks: Float[Tensor, "m c *members"]) -> Float[Tensor, "m c *ones"]:
    """A number per group, in the shape that broadcasts over the group's members."""
    return values.view(*values.shape, *(1 for _ in blocks.shape[2:]))


@torch.no_grad()
def group(z: Activity, groups: int, delta: float = 1.0) -> Grouped:
    """Cut z into groups, centre each, and take its variance u = (delta + Σ zc²) / s.  [KIB eq. 13]

    It is one pass of torch's group norm, whose epsilon is delta / s and which tells 1 / √u. No graph is kept.
    """
    blocks = cut(z, groups)
    m, c, channels = blocks.shape[:3]
    pixels = blocks.shape[3:].numel()
    flat = blocks.flatten(1, 2)
    epsilon = delta / (channels * pixels)
    standardised, _, inverse = torch.native_group_norm(flat, None, None, m, c * channels, pixels, groups, epsilon)
    return Grouped(standardised.view(blocks.shape), inverse.pow(-2))


def group_signal(u: Signal, power: float) -> Signal:
    """v = u^power minus its mean over the groups.  [KIB eq. 14]"""
    raised = raise_to(u, power)
    return raised - raised.mean(-1, keepdim=True)


def raise_to(u: Signal, power: float) -> Signal:
    """u^power of what is not negative, by way of the logarithm, which is faster than a general power."""
    return u.log().mul_(power).exp_() if power else torch.ones_like(u)


def normalise_groups(grouped: Grouped, power: float) -> Float[Tensor, "m c *members"]:
    """r = zc / u^power.  [KIB eq. 17]"""
    if power == 0.5:
        return grouped.standardised
    return grouped.standardised * over_members(raise_to(grouped.variance, 0.5 - power), grouped.standardised)


def divisive_normalisation(z: Activity, groups: int, power: float = 0.2, delta: float = 1.0) -> Activity:
    """z with each group centred and divided by a power of its variance, in the shape of z; autograd may pass."""
    return _DivisiveNormalisation.apply(z, groups, power, delta)


class _DivisiveNormalisation(torch.autograd.Function):
    """Its derivative in closed form, for autograd."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, *settings: Any) -> Tensor:
        ctx.save_for_backward(z)
        ctx.settings = settings
        groups, power, delta = settings
        return normalise_groups(group(z, groups, delta), power).reshape(z.shape)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        return divisive_normalisation_backward(errors[0], z, *ctx.settings), None, None, None


def divisive_normalisation_backward(
    error: Activity, z: Activity, groups: int, power: float = 0.2, delta: float = 1.0
) -> Activity:
    """dL/dz from `error` = dL/dr: t minus its group mean, t = g u^-p - (2p/s) (Σ g zc) u^(-p-1) zc."""
    grouped = group(z, groups, delta)
    standardised, u = grouped
    members, g = tuple(range(2, standardised.dim())), cut(error, groups)
    overlap = (g * standardised).sum(members) * u.pow(-power) * (2 * power / grouped.size)
    t = g * over_members(u.pow(-power), g) - over_members(overlap, g) * standardised
    return (t - t.mean(members, keepdim=True)).reshape(z.shape)


def group_factor(v_gradient: Signal, power: float, group_size: int) -> Signal:
    """dL/dv as a factor for each group's members: (2 power / s) dL/dv, which multiplies u^(power-1) zc.

    Neither centring needs a projection, as long as each row of dL/dv sums to zero: that of Q v does, because v's do.
    """
    return v_gradient * (2 * power / group_size)
