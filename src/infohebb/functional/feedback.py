"""Feedback: the matrix that carries a layer's error down to what lies below it.

weight (n × n')            of the layer: dense, or the kernels (c × c_in × kh × kw) that a map shares
feedback (n × n')          of the same shape: the weight itself in backprop, its signs, or numbers of its own
error (m × n), or a map    at the layer's drive; what comes out has the shape of the layer's input
"""

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional.convolution import Geometry, convolution_error
from infohebb.functional.products import Precision, product

Weight = Float[Tensor, "outputs inputs *kernel"]
Error = Float[Tensor, "m outputs *map"]


def random_feedback(outputs: int, inputs: int, *kernel: int, like: Tensor) -> Weight:
    """A fixed matrix, drawn as a weight of its shape would be: U(±1/√fan_in). Type and device are those of `like`."""
    bound = like.new_empty(inputs, *kernel).numel() ** -0.5
    return like.new_empty(outputs, inputs, *kernel).uniform_(-bound, bound)


def sign_feedback(weight: Weight) -> Weight:
    """The signs of the weights, all of size one; that of zero is zero."""
    return torch.sign(weight)


def send_down(
    error: Error,
    feedback: Weight,
    geometry: Geometry | None,
    size: torch.Size,
    precision: Precision = "fp32",
) -> Float[Tensor, "m *features"]:
    """The error in what the layer received, of shape `size`; `geometry` is that of weights that a map shares."""
    if geometry is None:
        return product(error, feedback, precision).view(size)
    return convolution_error(error, feedback, geometry, (size[2], size[3]), precision)
