"""Grouped variance, its power and centring, divisive normalisation, and the backward of each.

z (m × n)        activity, or a map    c         groups: consecutive blocks of s = n / c entries
zc (m × n)       z minus the mean of its group, sample by sample
u (m × c)        smoothed variance     v (m × c) its centred power: what the kernel sees

Where the groups of a map are whole channels, everything is done channel by channel, however the map lies in memory.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SAFE = 8.0  # standard deviations that a group's mean may be away from 0 without a loss of digits
Activity = Float[Tensor, "m *features"]
Signal = Float[Tensor, "m c"]


class Grouped(NamedTuple):
    """An activity in groups: zc / u^taken in its own shape, and each group's smoothed variance u (m × c)."""

    values: Tensor
    variance: Tensor
    taken: float

    @property
    def size(self) -> int:
        """Members of a group."""
        return self.values[0].numel() // self.variance.shape[1]


@torch.no_grad()
def group(z: Activity, groups: int, delta: float = 1.0) -> Grouped:
    """Cut z into groups, centre each, and take its variance u = (delta + Σ zc²) / s.  [KIB eq. 13]

    Of maps it is one pass of torch's group norm, which has divided by √u already. No graph is kept.
    """
    if _whole_channels(z, groups):
        return _group_maps(z, groups, delta)
    blocks = z.flatten(1).unflatten(1, (groups, -1))
    centred = blocks - blocks.mean(-1, keepdim=True)
    variance = torch.linalg.vector_norm(centred, dim=-1).square().add_(delta).div_(blocks.shape[-1])
    return Grouped(centred.view(z.shape), variance, 0.0)


def signal_and_norm(
    z: Float[Tensor, "n"], groups: int, power: float, delta: float = 1.0
) -> tuple[Float[Tensor, "c"], Float[Tensor, "n"]]:
    """v, of that power, and r = zc / u^(1-power) of a single activity, which few passes make.  No graph is kept.

    Layer norm of the groups has divided by √u, and tells 1 / √u.
    """
    size = len(z) // groups
    blocks = z.view(groups, size)
    standardised, _, inverse = torch.native_layer_norm(blocks, (size,), None, None, delta / size)
    raised = inverse.pow(-2 * power)
    v = raised.view(groups)
    return torch.sub(v, v.sum(), alpha=1 / groups), (standardised * (inverse * raised)).view(-1)


def _whole_channels(z: Tensor, groups: int) -> bool:
    return z.dim() == 4 and z.shape[1] % groups == 0


def _group_maps(z: Tensor, groups: int, delta: float) -> Grouped:
    """Group norm's epsilon is delta / s, and it tells 1 / √u."""
    m, channels, pixels = len(z), z.shape[1], z.shape[2:].numel()
    standardise = partial(torch.native_group_norm, weight=None, bias=None, N=m, C=channels, HxW=pixels, group=groups)
    epsilon = delta * groups / (channels * pixels)
    standardised, mean, inverse = standardise(z, eps=epsilon)
    if _loses_digits(z) and not bool((mean.abs() * inverse).amax() < SAFE):
        standardised, _, inverse = standardise(_shift_groups(z, -mean), eps=epsilon)
    return Grouped(standardised, inverse.square().reciprocal_(), 0.5)


def _loses_digits(z: Tensor) -> bool:
    """Whether torch takes the variance as a difference of squares: on the CPU, of maps that lie channels last."""
    return z.device.type == "cpu" and z.numel() > 0 and not z.is_contiguous()


def scale_groups(z: Activity, factors: Signal) -> Activity:
    """z with each group times its number."""
    blocks, spread = _aligned(z, factors)
    return (blocks * spread).reshape(z.shape)


def _aligned(z: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """z and a number per group (m × c), in shapes that broadcast; of maps with whole channels in a group, z itself."""
    groups = values.shape[1]
    if _whole_channels(z, groups):
        return z, values.repeat_interleave(z.shape[1] // groups, 1)[:, :, None, None]
    return z.reshape(len(z), groups, z.shape[1:].numel() // groups), values.unsqueeze(-1)


def sum_groups(z: Activity, groups: int) -> Signal:
    """Each group's sum."""
    flat = z.sum((2, 3)) if _whole_channels(z, groups) else z
    return flat.flatten(1).unflatten(1, (groups, -1)).sum(-1)


def group_signal(u: Signal, power: float) -> Signal:
    """v = u^power minus its mean over the groups.  [KIB eq. 14]"""
    raised = raise_to(u, power)
    return raised - raised.mean(-1, keepdim=True)


def raise_to(u: Signal, power: float) -> Signal:
    """u^power of what is not negative, by way of the logarithm, which is faster than a general power."""
    return u.log().mul_(power).exp_() if power else torch.ones_like(u)


def normalise_groups(grouped: Grouped, power: float) -> Activity:
    """r = zc / u^power.  [KIB eq. 17]"""
    if power == grouped.taken:
        return grouped.values
    return scale_groups(grouped.values, raise_to(grouped.variance, grouped.taken - power))


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
        return normalise_groups(group(z, groups, delta), power)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        return divisive_normalisation_backward(errors[0], z, *ctx.settings), None, None, None


def divisive_normalisation_backward(
    error: Activity, z: Activity, groups: int, power: float = 0.2, delta: float = 1.0
) -> Activity:
    """dL/dz from `error` = dL/dr: t minus its group mean, t = g u^-p - (2p/s) (Σ g zc) u^(-p-1) zc."""
    grouped = group(z, groups, delta)
    error = error.reshape(z.shape)
    u, size = grouped.variance, grouped.size
    overlap = sum_groups(error * grouped.values, groups) * u.pow(2 * grouped.taken - power - 1) * (2 * power / size)
    t = scale_groups(error, u.pow(-power)) - scale_groups(grouped.values, overlap)
    return _shift_groups(t, -sum_groups(t, groups) / size)


def _shift_groups(z: Activity, shifts: Signal) -> Activity:
    blocks, spread = _aligned(z, shifts)
    return (blocks + spread).reshape(z.shape)


def group_factor(v_gradient: Signal, power: float, group_size: int) -> Signal:
    """dL/dv as a factor for each group's members: (2 power / s) dL/dv, which multiplies u^(power-1) zc.

    Neither centring needs a projection, as long as each row of dL/dv sums to zero: that of Q v does, because v's do.
    """
    return v_gradient * (2 * power / group_size)
