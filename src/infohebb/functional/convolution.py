"""Synapses that a map shares: convolution, its gradients, and pooling with the way back.

x (m × c_in × h_in × w_in)  map received      weight (c × c_in × kh × kw)      error (m × c × h × w)  dL/d(drive)
"""

from typing import Literal, NamedTuple

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


HALVING = Geometry((2, 2), (2, 2))  # windows of 2 × 2 side by side


def channels_lie_together(a: Float[Tensor, "m c rows columns"]) -> bool:
    """Whether a map is stored pixel by pixel ("channels last"), which convolutions on most devices like better."""
    return a.is_contiguous(memory_format=torch.channels_last) and not a.is_contiguous()


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
    if channels_lie_together(error):
        like = like.to(memory_format=torch.channels_last)
    return _backward(b, a, like, geometry, "weight").to(x.dtype)


def convolution_error(
    error: Map, weight: Shared, geometry: Geometry, size: tuple[int, int], precision: Precision = "fp32"
) -> Seen:
    """dL/dx of what the synapses saw, a map of that size: the transposed convolution of the error."""
    a, b = rounded(precision, error, weight)
    like = a.new_empty(len(a), weight.shape[1], *size)
    return _backward(a, like, b, geometry, "x").to(error.dtype)


def _backward(error: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, by: Literal["x", "weight"]) -> Tensor:
    """A convolution's derivative by x or by its weight, of which it then needs the shape only."""
    _, stride, padding = geometry
    which = (by == "x", by == "weight", False)
    backward = torch.ops.aten.convolution_backward
    return backward(error, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, which)[by == "weight"]


def max_pool(h: Map, windows: Geometry = HALVING) -> Pooled:
    """The largest of each window; rows and columns left over at the end are left out."""
    kernel, stride, padding = windows
    return Pooled(*functional.max_pool2d(h, kernel, stride, padding, return_indices=True))


def route(error: Map, winners: Winners, size: tuple[int, int]) -> Float[Tensor, "m c rows columns"]:
    """The error of each window at its winner, in a map of that size; zero elsewhere."""
    if channels_lie_together(error):
        full = error.new_zeros(len(error), size[0] * size[1], error.shape[1])
        full.scatter_add_(1, winners.permute(0, 2, 3, 1).flatten(1, 2), error.permute(0, 2, 3, 1).flatten(1, 2))
        return full.unflatten(1, size).permute(0, 3, 1, 2)
    full = error.new_zeros(*error.shape[:2], size[0] * size[1])
    return full.scatter_add_(2, winners.flatten(2), error.flatten(2)).unflatten(2, size)


def at_winners(h: Float[Tensor, "m c rows columns"], winners: Winners) -> Map:
    """What a map holds at each window's winner."""
    return h.flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)


def average_pool(h: Map, windows: Geometry) -> Float[Tensor, "m c rows columns"]:
    """The mean of each window; rows and columns left over at the end are left out, zeros beyond the border count."""
    return functional.avg_pool2d(h, *windows)


def average_pool_backward(error: Map, windows: Geometry, size: tuple[int, int]) -> Float[Tensor, "m c rows columns"]:
    """dL/dh of a map of that size from the error of each window, in equal parts."""
    like = error.new_empty(*error.shape[:2], *size)
    return torch.ops.aten.avg_pool2d_backward(error, like, *windows, False, True, None)


def spread_pool(h: Float[Tensor, "m c rows columns"], cells: tuple[int, int]) -> Map:
    """The mean of a map over that many windows, which overlap where their number does not divide its size."""
    return functional.adaptive_avg_pool2d(h, cells)


def spread_pool_backward(error: Map, size: tuple[int, int]) -> Float[Tensor, "m c rows columns"]:
    """dL/dh of a map of that size from the error of each window."""
    return torch.ops.aten._adaptive_avg_pool2d_backward(error, error.new_empty(*error.shape[:2], *size))


def spread_over(error: Float[Tensor, "m c *windows"], shape: torch.Size) -> Float[Tensor, "m c *positions"]:
    """Return the error at each position of an activity that was averaged over windows; of vectors, the error itself."""
    if error.dim() == 4:
        return spread_pool_backward(error, (shape[2], shape[3]))
    if error.dim() == 3:
        return spread_pool_backward(error.unsqueeze(2), (1, shape[2])).squeeze(2)
    return error
