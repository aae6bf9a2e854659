"""The kernelized bottleneck from a stream: each stimulus against the one before, or against running averages.

x (n')  presynaptic activity    z (n)  activity    f' (n)  slope of the nonlinearity    r (n)  divisively normalised z
v (c)   signal of c groups      s      what the kernel sees: v, or z itself             Δ      now minus before
k_z, k_y  similarities of a stimulus and the one before, in activity and in label       κ_z, κ_y  their slow averages

What a synapse learns is a sum of a few rows, third factor × post × pre, as of a batch; with M of a pair of stimuli

    grouped    third factor M Δv, one number for each group,   post r f'
    plain      third factor M, one number,                     post Δz f'
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Signal = Float[Tensor, "c"]
Scalar = Float[Tensor, ""]
Pairs = Float[Tensor, "*pairs"]
Factor = Float[Tensor, "c"]
Post = Float[Tensor, "n"]
Pre = Float[Tensor, "inputs"]


class Rows(NamedTuple):
    """What is summed over k rows: minus dL/dW = Σ third factor × post × pre, the factor one for each group."""

    third_factor: Float[Tensor, "k c"]
    post: Float[Tensor, "k n"]
    pre: Float[Tensor, "k inputs"]


def gaussian_similarity(change: Signal, sigma: float) -> Scalar:
    """k_z = exp(-|s - s_before|² / 2σ²)."""
    return torch.exp(change.square().sum() / (-2 * sigma**2))


def pair_factor(k_z: Pairs, k_y: Pairs, kappa_z: Scalar, kappa_y: Scalar, sigma: float, gamma: float) -> Pairs:
    """M = -(1/σ²) (gamma (k_y - κ_y) - 2 (k_z - κ_z)) k_z, κ averages of the similarities."""
    return modulator(k_z, k_z - kappa_z, k_y - kappa_y, sigma, gamma)


def modulator(k_z: Pairs, centred: Pairs, teaching: Pairs, sigma: float, gamma: float) -> Pairs:
    """The same M from k_z, k_z - κ_z and k_y - κ_y."""
    return torch.sub(centred, teaching, alpha=gamma / 2).mul_(k_z).mul_(2 / sigma**2)


def two_points(third_factor: Factor, post: Post, post_before: Post, pre: Pre, pre_before: Pre) -> Rows:
    """third factor × (post × pre - post_before × pre_before).  [KIB eq. 19]

    With one factor for each group it is Eq. 18 for a pair of stimuli. Where f' = 1 the plain rule is M Δz Δxᵀ.
    """
    return Rows(third_factor.expand(2, -1), torch.stack([post, -post_before]), torch.stack([pre, pre_before]))


def running_activity(third_factor: Factor, post: Post, pre: Pre, pre_average: Pre) -> Rows:
    """third factor × post × (pre - its average), post the activity minus its own average.  [KIB eq. 20]"""
    return Rows(third_factor[None], post[None], (pre - pre_average)[None])


def running_hebb(third_factor: Factor, post: Post, post_average: Post, pre: Pre, pre_average: Pre) -> Rows:
    """third factor × (post × pre - averages of both): Eq. 18 against running averages.  [KIB eq. 21]"""
    return two_points(third_factor, post, post_average, pre, pre_average)


def eligible(third_factor: Factor, factor_after: Factor, post: Post, pre: Pre) -> Rows:
    """(third factor of a stimulus - that of the next one) × its own post × pre, held until then.  [KIB eq. 22]

    Summed over a stream it is Eq. 18, but for the first stimulus and the last.
    """
    return Rows((third_factor - factor_after)[None], post[None], pre[None])
