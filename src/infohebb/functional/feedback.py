"""Feedback: the matrix that carries a layer's error down to what lies below it.

weight (n × n')            of the layer: dense, or the kernels (c × c_in × kh × kw) that a map shares
feedback (n × n')          of the same shape: the weight itself in backprop, its signs, or numbers of its own
error (m × n), or a map    at the layer's drive; what comes out has the shape of the layer's input
"""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class ConvolutionInput:
    """What a convolution received, and how: a number per spatial axis, as in torch.

    `shape` (m × inputs × …, or without m) and `strides` of the input. `before`: zeros on both sides of each axis,
    `behind`: more of them behind it, which `padding="same"` adds for an odd number of zeros.
    """

    shape: torch.Size
    strides: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def error_below_linear(
    error: Float[Tensor, "*m outputs"], feedback: Float[Tensor, "outputs inputs"]
) -> Float[Tensor, "*m inputs"]:
    """Return the error in what a linear layer received, δ B, in the precision of the error."""
    return error @ feedback.to(error.dtype)


def error_below_convolution(error: Tensor, feedback: Weight, received: ConvolutionInput) -> Tensor:
    """Return the error in what a convolution received, in the precision of the error.

    error (m × outputs × …): at its output. feedback (outputs × inputs / groups × kernel).
    """
    single = len(received.shape) < feedback.dim()
    size = [*received.shape]
    for axis, zeros in enumerate(received.behind, start=-len(received.behind)):
        size[axis] += zeros
    padded = size != [*received.shape]
    like = error.new_empty(size) if padded else error.new_empty_strided(size, received.strides)  # for its size alone
    below = torch.ops.aten.convolution_backward(
        error[None] if single else error,
        like[None] if single else like,
        feedback.to(error.dtype),
        None,
        received.stride,
        received.before,
        received.dilation,
        False,
        (0,) * len(received.stride),
        received.groups,
        (True, False, False),
    )[0]
    below = below[0] if single else below
    return below[tuple(slice(length) for length in received.shape)] if padded else below
