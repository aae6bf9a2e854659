"""Synapses that a map shares: convolution, its weight gradient, and max pooling with the way back to its winners.

x (m × c_in × h_in × w_in)  map received      weight (c × c_in × kh × kw)      error (m × c × h × w)  dL/d(drive)
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from infohebb.functional.products import Precision, rounded

Seen = Float[Tensor, "m c_in h_in w_in"]
Map = Float[Tensor, "m c h w"]
Shared = Float[Tensor, "c c_in kh kw"]
Winners = Int64[Tensor, "m c h w"]


class Geometry(NamedTuple):
    """Which part of a map each synapse sees: size of the kernel, stride and zero padding, rows then columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def map_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of what a map of that size drives."""
        rows, columns = (
            (length + 2 * pad - kernel) // stride + 1 for length, kernel, stride, pad in zip(size, *self, strict=True)
        )
        return rows, columns


class Pooled(NamedTuple):
    """The largest of each window, and its place in its channel: the first one where several are as large."""

    values: Tensor
    winners: Tensor


def convolve(x: Seen, weight: Shared, geometry: Geometry, precision: Precision = "fp32") -> Map:
    """The drive: each weight times what it sees, summed."""
    a, b = rounded(precision, x, weight)
    return torch.conv2d(a, b, None, geometry.stride, geometry.padding).to(x.dtype)


def convolution_gradient(x: Seen, error: Map, geometry: Geometry, precision: Precision = "fp32") -> Shared:
    """dL/dW: x × error, summed over the batch and over the positions that share a weight."""
    a, b = rounded(precision, x, error)
    like = a.new_empty(error.shape[1], x.shape[1], *geometry.kernel)
    _, stride, padding = geometry
    which = (False, True, False)  # of input, weight and bias
    backward = torch.ops.aten.convolution_backward
    return backward(b, a, like, None, stride, padding, (1, 1), False, (0, 0), 1, which)[1].to(x.dtype)


def max_pool(h: Map) -> Pooled:
    """Windows of 2 × 2 side by side; an odd last row or column is left out."""
    return Pooled(*functional.max_pool2d(h, 2, return_indices=True))


def route(error: Map, winners: Winners, size: tuple[int, int]) -> Float[Tensor, "m c rows columns"]:
    """The error of each window at its winner, in a map of that size; zero elsewhere."""
    full = error.new_zeros(*error.shape[:2], size[0] * size[1])
    return full.scatter_(2, winners.flatten(2), error.flatten(2)).unflatten(2, size)
