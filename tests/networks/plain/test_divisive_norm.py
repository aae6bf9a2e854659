"""DivisiveNorm: the reference's numbers, and everything that autograd and its transforms ask of a module."""

import pytest
import torch
from torch import nn

from functional import oracles
from functional.oracles import assert_close, derivative, golden, normal
from infohebb.errors import GroupingError, MismatchError
from infohebb.functional import grouping
from infohebb.networks.plain import DivisiveNorm

SHAPES = [((5, 12), 3), ((5, 12), 6), ((4, 6, 2, 2), 3), ((4, 6, 2, 2), 6), ((4, 6, 2, 2), 12), ((4, 6, 5), 3)]
every_shape = pytest.mark.parametrize(("shape", "groups"), SHAPES)
every_setting = pytest.mark.parametrize(("power", "delta"), [(0.2, 1.0), (0.5, 0.0), (0.0, 1.0), (0.7, 3.0)])


@every_shape
@every_setting
def test_values_and_gradients_are_those_of_the_closed_form(shape, groups, power, delta):
    norm, z, error = DivisiveNorm(groups, power, delta), normal(*shape), normal(*shape, seed=1)
    assert_close(norm(z), oracles.divisive_norm(z, groups, power, delta), 1e-13)
    assert_close(norm(z), grouping.divisive_normalisation(z, groups, power, delta), 1e-13)
    expected = grouping.divisive_normalisation_backward(error, z, groups, power, delta)
    assert_close(derivative(lambda z: (error * norm(z)).sum(), z), expected, 1e-12, scale=1)


def test_values_are_those_of_the_reference_code():
    case = golden("grouping_divnorm")
    keys = [key for key in case if "__r0." in key]
    assert len(keys) == 24
    for key in keys:
        kind, groups, delta, power = key.split("__")
        norm = DivisiveNorm(int(groups[1:]), float(power[1:]), float(delta[5:]))
        assert_close(norm(case[kind]), case[key], message=key)


@pytest.mark.parametrize("groups", [3, 4])  # whole features, and one and a half with their moments
def test_sequences_are_normalised_over_time_and_blocks_of_features(groups):
    z = normal(4, 2, 6)
    expected = oracles.divisive_norm(z.mT, groups, 0.2).mT
    assert_close(DivisiveNorm(groups, dim=-1)(z), expected, 1e-13)
    assert_close(DivisiveNorm(groups, dim=2)(z), expected, 1e-13)


@pytest.mark.parametrize("groups", [2, 6, 12])
def test_a_map_keeps_its_layout_where_groups_are_whole_channels(groups):
    z = normal(4, 6, 2, 2)
    last = z.contiguous(memory_format=torch.channels_last)
    got = DivisiveNorm(groups)(last)
    assert_close(got, DivisiveNorm(groups)(z), 1e-14)
    assert got.is_contiguous(memory_format=torch.channels_last) == (groups < 12)


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_precisions_keep_their_digits_far_from_zero(shape, groups, dtype):
    z = (20 + 3 * normal(*shape)).to(dtype)
    expected = oracles.divisive_norm(z.double(), groups, 0.2, 1e-3)
    got = DivisiveNorm(groups, delta=1e-3)(z)
    assert got.dtype == dtype
    assert_close(got.double(), expected, 20 * torch.finfo(dtype).eps)  # what is centred, 20, has few digits


def test_half_precision_does_not_overflow_in_the_sum_of_squares():
    z = (100 * normal(2, 4096)).half()
    assert_close(DivisiveNorm(2)(z).double(), oracles.divisive_norm(z.double(), 2, 0.2), 3e-3)


@every_shape
def test_first_and_second_derivatives_by_finite_differences(shape, groups):
    z = normal(2, *shape[1:]).requires_grad_()
    assert torch.autograd.gradcheck(DivisiveNorm(groups), z)
    assert torch.autograd.gradgradcheck(DivisiveNorm(groups), z)


@every_shape
def test_function_transforms(shape, groups):
    norm, batches = DivisiveNorm(groups), normal(3, *shape)
    assert_close(torch.func.vmap(norm)(batches), torch.stack([norm(z) for z in batches]), 1e-14)
    z = batches[0]
    expected = torch.autograd.functional.jacobian(norm, z)
    assert_close(torch.func.jacrev(norm)(z), expected, 1e-13)
    assert torch.equal(torch.func.functional_call(norm, {}, (z,)), norm(z))


def test_a_meta_tensor_and_an_empty_batch_keep_their_shape():
    assert DivisiveNorm(2)(torch.empty(3, 4, 2, 2, device="meta")).shape == (3, 4, 2, 2)
    assert DivisiveNorm(2)(torch.empty(0, 4, 2, 2)).shape == (0, 4, 2, 2)
    assert DivisiveNorm(2)(torch.empty(0, 4)).shape == (0, 4)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"groups": 1}, GroupingError, "1 groups; give a whole number"),
        ({"power": float("nan")}, GroupingError, "power nan"),
        ({"delta": -1.0}, GroupingError, "delta -1.0"),
        ({"dim": 0}, MismatchError, "dim 0; give the channel axis"),
    ],
)
def test_settings_out_of_range_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        DivisiveNorm(**settings)


@pytest.mark.parametrize("shape", [(3, 12), (3, 4, 3, 1), (3, 3, 2, 2)])
def test_groups_that_do_not_divide_a_sample_are_refused_with_those_that_do(shape):
    with pytest.raises(GroupingError, match=r"5 groups do not cut a layer of 12 neurons .* possible: 2, 3, 4, 6$"):
        DivisiveNorm(5)(normal(*shape))


def test_groups_of_a_single_neuron_are_refused():
    with pytest.raises(GroupingError, match="12 groups"):
        DivisiveNorm(12)(normal(3, 12))


@pytest.mark.parametrize(("shape", "dim"), [((12,), 1), ((3, 12), 2), ((3, 12), -2)])
def test_an_activity_without_the_axis_of_channels_is_refused(shape, dim):
    with pytest.raises(MismatchError, match="has no channel axis"):
        DivisiveNorm(3, dim=dim)(normal(*shape))


def test_settings_are_in_its_repr():
    assert repr(DivisiveNorm(16, 0.5, 0.0)) == "DivisiveNorm(groups=16, power=0.5, delta=0.0)"
    assert repr(nn.Sequential(DivisiveNorm(dim=-1))).count("dim=-1") == 1
