"""Plasticity: what the two ends of a synapse and a broadcast factor make of its weight.

pre (m × n')  presynaptic activity    post (m × n)  postsynaptic factor    third_factor (m × c)  a number per group
All return dL/dW, minus the update.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional.convolution import Geometry, Map, Seen, Shared, convolution_gradient
from infohebb.functional.grouping import scale_groups
from infohebb.functional.products import Precision, product

Pre = Float[Tensor, "*nets m inputs"]
Post = Float[Tensor, "*others m outputs"]
Weight = Float[Tensor, "*both outputs inputs"]


def hebbian(pre: Pre, post: Post, precision: Precision = "fp32") -> Weight:
    """pre × post, summed over the batch, of each network where several stand side by side."""
    if pre.shape[-2] == 1:
        return post.mT * pre
    if pre.shape[-2] == 2 and torch.compiler.is_compiling():  # goes where it is needed without being stored
        return post[..., :1, :].mT * pre[..., :1, :] + post[..., 1:, :].mT * pre[..., 1:, :]
    return product(post.mT, pre, precision)


def hebbian_map(pre: Seen, post: Map, geometry: Geometry, precision: Precision = "fp32") -> Shared:
    """pre × post of weights that a map shares, summed over the batch and over positions."""
    return convolution_gradient(pre, post, geometry, precision)


def modulate(
    third_factor: Float[Tensor, "m c"], post: Float[Tensor, "m outputs *map"]
) -> Float[Tensor, "m outputs *map"]:
    """Third factor × post, one number for each sample and group of neurons; × pre it is the rule.  [KIB eq. 18]"""
    return scale_groups(post, third_factor)
