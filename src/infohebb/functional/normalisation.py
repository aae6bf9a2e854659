"""Batch and layer normalisation in closed form, forward and backward.

a (m × n)  what is normalised     â (m × n)  centred and scaled to unit variance     g (m × n)  dL/d(output)

Batch normalisation takes maps (m × n × h × w) too: a channel is then one neuron, seen at m·h·w moments.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Batch = Float[Tensor, "m n"]
Moments = Float[Tensor, "m n *positions"]
PerNeuron = Float[Tensor, "n"]
PerSample = Float[Tensor, "m 1"]


class Normalised(NamedTuple):
    """â and the factor that made it: 1 / sqrt(variance + epsilon)."""

    normalised: Tensor
    scale: Tensor


def moments(a: Moments) -> tuple[int, ...]:
    """The dimensions of `a` over which a neuron is averaged: all but the second."""
    return (0, *range(2, a.dim()))


def spread(values: PerNeuron, a: Moments) -> Tensor:
    """A number per neuron, in the shape that broadcasts over the moments of `a`."""
    return values.view(-1, *(1 for _ in a.shape[2:]))


def batch_norm(a: Moments, mean: PerNeuron, variance: PerNeuron, epsilon: float = 1e-5) -> Normalised:
    """Each neuron centred and scaled by the given statistics."""
    scale = (variance + epsilon).rsqrt()
    return Normalised((a - spread(mean, a)) * spread(scale, a), scale)


def batch_norm_backward(g: Moments, normalised: Moments, scale: PerNeuron) -> Moments:
    """scale (g - mean g - â mean(g â)), means over the moments: the statistics are those of the batch itself.

    `scale` includes the affine weight.
    """
    over = moments(g)
    slope = (g * normalised).mean(over, keepdim=True)
    return spread(scale, g) * (g - g.mean(over, keepdim=True) - normalised * slope)


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
