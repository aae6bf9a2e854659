"""Plasticity: what the two ends of a synapse and a broadcast factor make of its weight.

pre (m × n')  presynaptic activity    post (m × n)  postsynaptic factor    third_factor (m × c)  a number per group
All return dL/dW, minus the update.
"""

from jaxtyping import Float
from torch import Tensor

from infohebb.functional.products import Precision, product

Pre = Float[Tensor, "m inputs"]
Post = Float[Tensor, "m outputs"]
Weight = Float[Tensor, "outputs inputs"]


def hebbian(pre: Pre, post: Post, precision: Precision = "fp32") -> Weight:
    """pre × post, summed over the batch."""
    return product(post.T, pre, precision)


def broadcast(third_factor: Float[Tensor, "m c"], post: Post) -> Post:
    """Third factor × post: each group's number multiplies all of its members."""
    grouped = post.view(*third_factor.shape, -1)
    return (grouped * third_factor.unsqueeze(-1)).view(post.shape)


def three_factor(pre: Pre, post: Post, third_factor: Float[Tensor, "m c"], precision: Precision = "fp32") -> Weight:
    """pre × post × third factor, summed over the batch: one scalar for each sample and group.  [KIB eq. 18]"""
    return hebbian(pre, broadcast(third_factor, post), precision)
