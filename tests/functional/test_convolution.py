"""Convolution and pooling against torch's autograd and slow loops, in float64."""

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb.functional.convolution import (
    Geometry,
    at_winners,
    average_pool,
    average_pool_backward,
    convolution_error,
    convolution_gradient,
    convolve,
    max_pool,
    route,
)
from infohebb.functional.plasticity import hebbian_map

GEOMETRIES = {
    "the paper's": Geometry((3, 3), (1, 1), (1, 1)),
    "without padding": Geometry((2, 2)),
    "with a stride": Geometry((3, 2), (2, 1), (1, 0)),
    "one by one": Geometry((1, 1)),
}
geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)


@geometries
def test_convolution_is_a_sum_over_what_each_weight_sees(geometry):
    x, weight = normal(2, 3, 6, 5), normal(4, 3, *geometry.kernel, seed=1)
    got = convolve(x, weight, geometry)
    assert got.shape[2:] == geometry.map_size((6, 5))
    rows, columns = geometry.padding
    padded = torch.nn.functional.pad(x, (columns, columns, rows, rows))
    for row, column in ((0, 0), (1, 2), (got.shape[2] - 1, got.shape[3] - 1)):
        top, left = row * geometry.stride[0], column * geometry.stride[1]
        seen = padded[:, :, top : top + geometry.kernel[0], left : left + geometry.kernel[1]]
        assert_close(got[:, :, row, column], torch.einsum("mcij,ncij->mn", seen, weight), 1e-13)


@geometries
def test_its_gradient_is_autograds(geometry):
    x, weight = normal(3, 2, 6, 5), normal(4, 2, *geometry.kernel, seed=1).requires_grad_()
    drive = torch.conv2d(x, weight, None, geometry.stride, geometry.padding)
    error = normal(*drive.shape, seed=2)
    drive.backward(error)
    assert_close(convolution_gradient(x, error, geometry), weight.grad, 1e-13)
    assert_close(hebbian_map(x, error, geometry), weight.grad, 1e-13)


def test_a_weight_of_a_map_is_pre_times_post_summed_over_positions():
    """[KIB spec 6.3] as it is written, by loops."""
    pre, post, slow = normal(2, 2, 4, 3), normal(2, 3, 4, 3, seed=1), torch.zeros(3, 2, 3, 3, dtype=torch.float64)
    padded = torch.nn.functional.pad(pre, (1, 1, 1, 1))
    for row in range(3):
        for column in range(3):
            seen = padded[:, :, row : row + 4, column : column + 3]
            slow[:, :, row, column] = torch.einsum("mnij,mcij->nc", post, seen)
    assert_close(hebbian_map(pre, post, GEOMETRIES["the paper's"]), slow, 1e-13)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (2, 3)])
def test_errors_go_back_to_the_winners_as_by_autograd(size):
    h = normal(2, 3, *size).requires_grad_()
    pooled = max_pool(h)
    error = normal(*pooled.values.shape, seed=1)
    torch.nn.functional.max_pool2d(h, 2).backward(error)
    assert_close(route(error, pooled.winners, size), h.grad, 1e-13)


def test_the_first_of_several_maxima_wins():
    h = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    assert max_pool(h).winners.flatten().tolist() == [0, 2, 8, 10]
    h[0, 0, 1, :] = 1.0
    assert max_pool(h).winners.flatten().tolist() == [4, 6, 8, 10]


def test_bf16_rounds_the_operands_and_float64_is_never_rounded():
    geometry, x, weight = GEOMETRIES["the paper's"], normal(2, 3, 6, 6), normal(4, 3, 3, 3, seed=1)
    assert torch.equal(convolve(x, weight, geometry, "bf16"), convolve(x, weight, geometry))
    x, weight = x.float(), weight.float()
    fine, coarse = convolve(x, weight, geometry), convolve(x, weight, geometry, "bf16")
    assert coarse.dtype == torch.float32
    assert 1e-4 < float((fine - coarse).abs().max() / fine.abs().max()) < 3e-2
    gradient = convolution_gradient(x, fine, geometry, "bf16")
    assert gradient.dtype == torch.float32
    assert_close(gradient, convolution_gradient(x, fine, geometry), 3e-2)


WINDOWS = {
    "side by side": Geometry((2, 2), (2, 2)),
    "overlapping": Geometry((3, 3), (2, 2), (1, 1)),
    "one column": Geometry((3, 1), (3, 1)),
}
windows = pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)


@windows
def test_errors_find_the_winners_of_any_windows(windows):
    h = normal(2, 3, 7, 6).requires_grad_()
    pooled = max_pool(h, windows)
    assert pooled.values.shape[2:] == windows.map_size((7, 6))
    error = normal(*pooled.values.shape, seed=1)
    torch.nn.functional.max_pool2d(h, *windows).backward(error)
    assert_close(route(error, pooled.winners, (7, 6)), h.grad, 1e-13)
    assert torch.equal(at_winners(h.detach(), pooled.winners), pooled.values.detach())


@windows
def test_an_average_shares_its_error_equally(windows):
    h = normal(2, 3, 7, 6).requires_grad_()
    average = average_pool(h, windows)
    assert_close(average.sum(), (h * average_pool_backward(torch.ones_like(average), windows, (7, 6))).sum(), 1e-12)
    error = normal(*average.shape, seed=1)
    torch.nn.functional.avg_pool2d(h, *windows).backward(error)
    assert_close(average_pool_backward(error, windows, (7, 6)), h.grad, 1e-13)


@geometries
def test_the_error_below_is_autograds(geometry):
    x, weight = normal(3, 2, 6, 5).requires_grad_(), normal(4, 2, *geometry.kernel, seed=1)
    drive = torch.conv2d(x, weight, None, geometry.stride, geometry.padding)
    error = normal(*drive.shape, seed=2)
    drive.backward(error)
    assert_close(convolution_error(error, weight, geometry, (6, 5)), x.grad, 1e-13)
    in_bf16 = convolution_error(error.float(), weight.float(), geometry, (6, 5), "bf16")
    assert in_bf16.dtype == torch.float32
    assert 0 < (in_bf16 - x.grad).abs().max() < 0.05 * x.grad.abs().max()
