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
    got = normalisation.batch_norm(ACTIVITY, norm.running_mean, norm.running_var, epsilon)
    assert_close(got.normalised, norm(ACTIVITY), 1e-12)
    assert_close(got.scale, 1 / (norm.running_var + epsilon).sqrt(), 1e-13)


@epsilons
def test_backward_of_batch_norm_by_the_batchs_own_statistics_is_torchs(epsilon):
    weight, bias = normal(6, seed=4), normal(6, seed=5)

    def torchs(a, weight, bias):
        return (ERROR * torch.nn.functional.batch_norm(a, None, None, weight, bias, True, eps=epsilon)).sum()

    variance, mean = torch.var_mean(ACTIVITY, 0, correction=0)
    normalised, scale = normalisation.batch_norm(ACTIVITY, mean, variance, epsilon)
    got = normalisation.batch_norm_backward(ERROR, normalised, scale * weight)
    expected = derivative(torchs, ACTIVITY, weight, bias)
    for ours, theirs in zip((got, (ERROR * normalised).sum(0), ERROR.sum(0)), expected, strict=True):
        assert_close(ours, theirs, 1e-11)


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
    assert_close(normalisation.batch_norm(small, mean, variance).normalised, expected, 1e-12)
    assert_close(normalisation.layer_norm(small).normalised, torch.nn.functional.layer_norm(small, (6,)), 1e-12)
