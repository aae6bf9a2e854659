"""Divisive normalisation of groups of units, in plain differentiable torch operations.

z (m × ...)  activity     s  members of a group     u (m × groups)  (delta + Σ zc²) / s, where zc is z minus its group's
mean

The mean is subtracted before the squares are summed, so that a large mean costs no digits.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import GroupingError, MismatchError, is_number, is_whole

Activity = Float[Tensor, "m *features"]


class DivisiveNorm(nn.Module):
    """Return the activity with each group centred and divided by a power of its variance, sample by sample.

    r = zc / u^power, where zc is z minus its group's mean and u = (delta + Σ zc²) / group size.

    Args:
        groups: number of groups, 2 or more. Each is a block of consecutive channels with all their positions. Where
            `groups` does not divide the channels, it is a block of the flattened channel-first sample instead.
        power: exponent of the variance, default 0.2. 0 only centres; 0.5 gives each group unit variance.
        delta: number ≥ 0 added to the sum of squares, default 1. Larger values damp groups that are nearly silent.
        dim: axis of the channels, default 1: (m, features) or maps (m, channels, rows, columns). Take -1 for sequences
            (m, time, features).

    Raises:
        GroupingError: for groups, power or delta out of range, and at a batch whose samples `groups` does not divide.
        MismatchError: for a `dim` that is no whole number or the batch axis, and for a batch without such an axis.
    """

    def __init__(self, groups: int = 32, power: float = 0.2, delta: float = 1.0, dim: int = 1):
        super().__init__()
        if not is_whole(groups) or groups < 2:
            raise GroupingError(
                f"{groups!r} groups; give a whole number, 2 or more: a single group's variance, centred over groups, "
                "is always zero"
            )
        if not is_number(power):
            raise GroupingError(f"power {power!r} of the groups' variance; give a finite number, such as 0.2")
        if not is_number(delta) or delta < 0:
            raise GroupingError(f"delta {delta!r}; give a number of 0 or more, so that no variance is negative")
        if not is_whole(dim) or dim == 0:
            raise MismatchError(f"dim {dim!r}; give the channel axis: 1 for vectors and maps, -1 for sequences")
        self.groups, self.power, self.delta, self.dim = groups, power, delta, dim

    def forward(self, activity: Activity) -> Activity:
        """Return the normalised activity, in the shape it came in."""
        if not -activity.dim() < self.dim < activity.dim():
            raise MismatchError(
                f"an activity of shape {tuple(activity.shape)} has no channel axis {self.dim} after the batch axis; "
                "give (samples, features) or (samples, channels, rows, columns)"
            )
        check_groups(self.groups, math.prod(activity.shape[1:]))
        return divisive_norm(activity, self.groups, self.power, self.delta, self.dim)

    def extra_repr(self) -> str:
        """Return the settings as text."""
        axis = "" if self.dim == 1 else f", dim={self.dim}"
        return f"groups={self.groups}, power={self.power}, delta={self.delta}{axis}"


def check_groups(groups: int, neurons: int) -> None:
    """Raise GroupingError unless `groups` divides `neurons` into two or more equal groups of two or more."""
    if groups < 2 or neurons % groups or neurons // groups < 2:
        fitting = [count for count in range(2, neurons // 2 + 1) if neurons % count == 0]
        use = ", ".join(map(str, fitting[:8])) + (", …" if len(fitting) > 8 else "")
        raise GroupingError(
            f"{groups} groups do not cut a layer of {neurons} neurons into two or more equal groups of two or more; "
            f"possible: {use or 'none'}"
        )


def divisive_norm(z: Activity, groups: int, power: float = 0.2, delta: float = 1.0, dim: int = 1) -> Activity:
    """Return r = zc / u^power in the shape and type of z; arguments as those of DivisiveNorm."""
    dim = dim % z.dim()
    wide = z.float() if z.dtype == torch.float16 else z  # float16 overflows in the sum of squares
    if z.dim() > 2 and z.shape[dim] % groups == 0:
        normalised = _normalise_channels(wide, groups, power, delta, dim)
    else:
        normalised = _normalise_blocks(wide.movedim(dim, 1), groups, power, delta).movedim(1, dim)
    return normalised.to(z.dtype)  # autocast takes sums and powers in float32


def _normalise_blocks(z: Activity, groups: int, power: float, delta: float) -> Activity:
    """Groups are consecutive blocks of the flattened sample."""
    size = math.prod(z.shape[1:]) // groups
    blocks = z.reshape(z.shape[0], groups, size)
    centred = blocks - blocks.sum(2, keepdim=True) / size
    variance = (centred.square().sum(2, keepdim=True) + delta) / size
    return (centred * variance.pow(-power)).view(z.shape)


def _normalise_channels(z: Activity, groups: int, power: float, delta: float, dim: int) -> Activity:
    """Groups are consecutive channels with all their positions; z keeps its memory layout.

    Reductions over an activity with its channels split in two axes are far slower where channels lie last. So
    sums are taken per channel, then per group, and each group's number is repeated for its channels.
    """
    channels = z.shape[dim] // groups
    positions = [axis for axis in range(1, z.dim()) if axis != dim]
    size = math.prod(z.shape[1:]) // groups

    def per_group(values: Tensor) -> Tensor:
        return values.sum(positions).unflatten(1, (groups, channels)).sum(2)

    def spread(numbers: Tensor) -> Tensor:
        each = numbers.repeat_interleave(channels, 1)
        return each[(slice(None), *(slice(None) if axis == dim else None for axis in range(1, z.dim())))]

    centred = z - spread(per_group(z) / size)
    variance = (per_group(centred.square()) + delta) / size
    return centred * spread(variance.pow(-power))
