"""Batch and layer normalisation in closed form, forward and backward.

a (m × n)  what is normalised     â (m × n)  centred and scaled to unit variance     g (m × n)  dL/d(output)
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Batch = Float[Tensor, "m n"]
PerNeuron = Float[Tensor, "n"]
PerSample = Float[Tensor, "m 1"]


class Normalised(NamedTuple):
    """â and the factor that made it: 1 / sqrt(variance + epsilon)."""

    normalised: Tensor
    scale: Tensor


def batch_norm(a: Batch, mean: PerNeuron, variance: PerNeuron, epsilon: float = 1e-5) -> Normalised:
    """Each neuron centred and scaled by the given statistics."""
    scale = (variance + epsilon).rsqrt()
    return Normalised((a - mean) * scale, scale)


def batch_norm_backward(g: Batch, normalised: Batch, scale: PerNeuron) -> Batch:
    """scale (g - mean g - â mean(g â)), means over the batch: the statistics are those of the batch itself.

    `scale` includes the affine weight.
    """
    return scale * (g - g.mean(0) - normalised * (g * normalised).mean(0))


def layer_norm(h: Batch, epsilon: float = 1e-5) -> Normalised:
    """Each sample centred and scaled over its neurons; no affine parameters."""
    centred = h - h.mean(1, keepdim=True)
    scale = (centred.square().mean(1, keepdim=True) + epsilon).rsqrt()
    return Normalised(centred * scale, scale)


def layer_norm_factors(g: Batch, normalised: Batch, scale: PerSample) -> Float[Tensor, "m 3"]:
    """The three numbers per sample that its neurons need for the backward: scale, mean g, mean(g ĥ)."""
    return torch.cat([scale, g.mean(1, keepdim=True), (g * normalised).mean(1, keepdim=True)], 1)


def layer_norm_backward(g: Batch, normalised: Batch, factors: Float[Tensor, "m 3"]) -> Batch:
    """scale (g - mean g - ĥ mean(g ĥ)), means over the neurons of each sample."""
    scale, mean, slope = factors.split(1, dim=1)
    return scale * (g - mean - normalised * slope)
