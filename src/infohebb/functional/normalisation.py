"""Batch and layer normalisation in closed form, forward and backward.

a (m × n)  what is normalised     â (m × n)  centred and scaled to unit variance     g (m × n)  dL/d(output)

Both take maps (m × n × h × w) too: for batch normalisation a channel is then one neuron, seen at m·h·w moments; layer
normalisation goes over the channels of each pixel, and takes networks side by side (nets × m × n).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Batch = Float[Tensor, "m n"]
Neurons = Float[Tensor, "m n"] | Float[Tensor, "nets m n"] | Float[Tensor, "m n h w"]
Moments = Float[Tensor, "m n *positions"]
PerNeuron = Float[Tensor, "n"]
PerSample = Float[Tensor, "m 1"] | Float[Tensor, "nets m 1"] | Float[Tensor, "m 1 h w"]
Factors = Float[Tensor, "m 3"] | Float[Tensor, "nets m 3"] | Float[Tensor, "m 3 h w"]


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


def batch_norm(a: Moments, epsilon: float = 1e-5) -> tuple[Normalised, PerNeuron, PerNeuron]:
    """Each neuron centred and scaled by the batch's own statistics, and these: mean and variance over its moments."""
    normalised, mean, scale = torch.native_batch_norm(a, None, None, None, None, True, 0.0, epsilon)
    return Normalised(normalised, scale), mean, scale.pow(-2) - epsilon


def batch_norm_by(a: Moments, mean: PerNeuron, variance: PerNeuron, epsilon: float = 1e-5) -> Normalised:
    """Each neuron centred and scaled by the statistics given."""
    normalised = torch.native_batch_norm(a, None, None, mean, variance, False, 0.0, epsilon)[0]
    return Normalised(normalised, (variance + epsilon).rsqrt())


def affine(normalised: Moments, weight: PerNeuron, bias: PerNeuron) -> Moments:
    """What batch norm makes of it: weight â + bias."""
    return torch.addcmul(spread(bias, normalised), normalised, spread(weight, normalised))


class BatchNormGradients(NamedTuple):
    """The error at batch norm's input, and the gradients of its weight and bias."""

    error: Tensor
    weight: Tensor
    bias: Tensor


def batch_norm_backward(g: Moments, normalised: Moments, scale: PerNeuron) -> BatchNormGradients:
    """scale (g - mean g - â mean(g â)), Σ g â and Σ g: the statistics are those of the batch itself.

    `scale` includes the affine weight. torch's own backward, of an input that is normalised already; it is far slower
    where the two do not lie alike in memory.
    """
    if g.stride() != normalised.stride():
        g = torch.empty_like(normalised).copy_(g)
    mean, one = torch.zeros_like(scale), torch.ones_like(scale)
    backward = torch.ops.aten.native_batch_norm_backward
    settings = True, 0.0, (True, True, True)  # training, epsilon, and which of the three
    return BatchNormGradients(*backward(g, normalised, scale, None, None, mean, one, *settings))


def _neurons(h: Neurons) -> int:
    """The dimension over which one sample, or one pixel of a map, is normalised."""
    return 1 if h.dim() == 4 else -1


def layer_norm(h: Neurons, epsilon: float = 1e-5) -> Normalised:
    """Samples centred and scaled over their neurons, pixels of a map over their channels; nothing affine.  [WMH 5.1]"""
    if h.dim() != 4:
        normalised, _, scale = torch.native_layer_norm(h, h.shape[-1:], None, None, epsilon)
        return Normalised(normalised, scale)
    centred = h - h.mean(1, keepdim=True)
    scale = (centred.square().mean(1, keepdim=True) + epsilon).rsqrt()
    return Normalised(centred * scale, scale)


def layer_norm_factors(g: Neurons, normalised: Neurons, scale: PerSample) -> Factors:
    """The three numbers per sample or pixel that neurons need for the backward: scale, mean g, mean(g ĥ).  [WMH 5.2]"""
    over = _neurons(g)
    return torch.cat([scale, g.mean(over, keepdim=True), (g * normalised).mean(over, keepdim=True)], over)


def layer_norm_backward(g: Neurons, normalised: Neurons, factors: Factors) -> Neurons:
    """scale (g - mean g - ĥ mean(g ĥ)), means over the neurons of each sample or pixel.  [WMH 5.3]"""
    scale, mean, slope = factors.unbind(1)[:3] if g.dim() == 4 else factors.unbind(-1)
    scale, mean, slope = (number.unsqueeze(_neurons(g)) for number in (scale, mean, slope))
    return torch.addcmul(g, normalised, slope, value=-1).sub_(mean).mul_(scale)
