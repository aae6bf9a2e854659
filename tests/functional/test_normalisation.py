import itertools

import pytest
import torch

from functional.oracles import assert_close, derivative, normal
from infohebb.functional import normalisation

ACTIVITY, ERROR = 2 * normal(9, 6) + 1, normal(9, 6, seed=1)
epsilons = pytest.mark.parametrize("epsilon", [1e-5, 0.3])


@epsilons
def test_batch_norm_is_torchs_in_evaluation(epsilon):
    norm = torch.nn.BatchNorm1d(6, eps=epsilon, affine=False).double().eval()
    norm.running_mean.copy_(normal(6, seed=2))
    norm.running_var.copy_(normal(6, seed=3).exp())
    got = normalisation.batch_norm_by(ACTIVITY, norm.running_mean, norm.running_var, epsilon)
    assert_close(got.normalised, norm(ACTIVITY), 1e-12)
    assert_close(got.scale, 1 / (norm.running_var + epsilon).sqrt(), 1e-13)


@epsilons
def test_backward_of_batch_norm_by_the_batchs_own_statistics_is_torchs(epsilon):
    weight, bias = normal(6, seed=4), normal(6, seed=5)

    def torchs(a, weight, bias):
        return (ERROR * torch.nn.functional.batch_norm(a, None, None, weight, bias, True, eps=epsilon)).sum()

    (normalised, scale), mean, variance = normalisation.batch_norm(ACTIVITY, epsilon)
    assert_close(mean, ACTIVITY.mean(0), 1e-13)
    assert_close(variance, ACTIVITY.var(0, correction=0), 1e-12)
    out = torch.nn.functional.batch_norm(ACTIVITY, None, None, weight, bias, True, eps=epsilon)
    assert_close(normalisation.affine(normalised, weight, bias), out, 1e-12)
    got = normalisation.batch_norm_backward(ERROR, normalised, scale * weight)
    expected = derivative(torchs, ACTIVITY, weight, bias)
    for ours, theirs in zip(got, expected, strict=True):
        assert_close(ours, theirs, 1e-11)


LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize(("layout", "of_error"), [*itertools.product(LAYOUTS, LAYOUTS)])
def test_batch_norm_of_maps_averages_over_positions(layout, of_error):
    a = normal(4, 3, 5, 2, seed=6).contiguous(memory_format=layout)
    error = normal(4, 3, 5, 2, seed=7).contiguous(memory_format=of_error)
    rows, errors = (each.transpose(0, 1).reshape(3, -1).T for each in (a, error))
    (normalised, scale), mean, variance = normalisation.batch_norm(a)
    (expected, expected_scale), *statistics = normalisation.batch_norm(rows)
    assert_close(normalised.transpose(0, 1).reshape(3, -1).T, expected, 1e-12)
    assert_close(torch.stack([scale, mean, variance]), torch.stack([expected_scale, *statistics]), 1e-12)
    got = normalisation.batch_norm_backward(error, normalised, scale)
    wanted = normalisation.batch_norm_backward(errors, expected, expected_scale)
    assert got.error.stride() == normalised.stride()
    assert_close(got.error.transpose(0, 1).reshape(3, -1).T, wanted.error, 1e-11)
    assert_close(torch.cat([got.weight, got.bias]), torch.cat([wanted.weight, wanted.bias]), 1e-11)


@epsilons
def test_layer_norm_and_its_backward_are_torchs(epsilon):
    norm = torch.nn.LayerNorm(6, eps=epsilon, elementwise_affine=False).double()
    normalised, scale = normalisation.layer_norm(ACTIVITY, epsilon)
    assert_close(normalised, norm(ACTIVITY), 1e-12)
    factors = normalisation.layer_norm_factors(ERROR, normalised, scale)
    assert factors.shape == (9, 3)
    got = normalisation.layer_norm_backward(ERROR, normalised, factors)
    assert_close(got, derivative(lambda h: (ERROR * norm(h)).sum(), ACTIVITY), 1e-11)


def test_epsilon_is_torchs_unless_told():
    small = 1e-3 * ACTIVITY
    mean, variance = small.mean(0), small.var(0, correction=0)
    expected = torch.nn.functional.batch_norm(small, mean, variance)
    assert_close(normalisation.batch_norm_by(small, mean, variance).normalised, expected, 1e-12)
    assert_close(normalisation.batch_norm(small)[0].normalised, expected, 1e-12)
    assert_close(normalisation.layer_norm(small).normalised, torch.nn.functional.layer_norm(small, (6,)), 1e-12)
