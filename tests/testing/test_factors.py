"""Gradients of a Learner are the paper's rules: sums over pairs of samples, and pre × post × third factor."""

import pytest
import torch
from torch import nn

from infohebb import KernelizedBottleneck, Learner
from infohebb.functional import grouping, kernels, pairwise, plasticity
from infohebb.networks.plain import DivisiveNorm
from infohebb.testing.contract.downstream import seen_by
from infohebb.training.seeding import seeded

SIGMA, GAMMA, POWER = 1.5, 2.0, 0.8


def learner_and_batch(*norm):
    with seeded(0):
        model = nn.Sequential(nn.Linear(7, 8), nn.Tanh(), *norm, nn.Linear(8, 3)).double()
        x, y = torch.randn(5, 7, dtype=torch.float64), torch.arange(5) % 3
        learner = Learner(model, KernelizedBottleneck(sigma=SIGMA, gamma=GAMMA))
    learner.backward(x, y)
    return learner, x, y


def response(learner, x):
    """Activity of the first unit, and the slope of its activation."""
    with torch.no_grad():
        z = torch.tanh(learner.model[0](x))
    return z, 1 - z.square()


def pair_factors(v, y):
    return pairwise.pair_factor(kernels.gaussian_gram(v, SIGMA), kernels.label_gram(y, 3, v.dtype), SIGMA, GAMMA)


def test_gradients_of_a_gaussian_kernel_are_the_papers_sum_over_pairs():
    learner, x, y = learner_and_batch()
    z, slope = response(learner, x)
    expected = -pairwise.gaussian_pair_rule(x, z, slope, pair_factors(z, y))
    torch.testing.assert_close(learner.model[0].weight.grad, expected, rtol=1e-10, atol=1e-13)


def test_gradients_of_a_grouped_kernel_are_the_papers_sum_over_pairs():
    learner, x, y = learner_and_batch(DivisiveNorm(groups=2, power=1 - POWER))
    z, slope = response(learner, x)
    grouped = grouping.group(z, 2, 1.0)
    v = grouping.group_signal(grouped.variance, POWER)
    r = grouping.normalise_groups(grouped, 1 - POWER)
    expected = -pairwise.grouped_pair_rule(x, r, slope, v, pair_factors(v, y), POWER)
    torch.testing.assert_close(learner.model[0].weight.grad, expected, rtol=1e-10, atol=1e-13)


def test_the_record_holds_the_three_factors():
    learner, x, y = learner_and_batch(DivisiveNorm(groups=2, power=1 - POWER))
    record = learner.record(x, y)["0"]
    _, slope = response(learner, x)
    product = plasticity.hebbian(record.input, plasticity.modulate(record.third_factor, record.post * slope))
    torch.testing.assert_close(learner.model[0].weight.grad, product, rtol=1e-10, atol=1e-13)
    assert record.third_factor.shape == (5, 2)


@pytest.mark.parametrize("stride", [1, 2])
def test_rows_that_a_convolution_sees_times_its_weight_are_its_output(stride):
    layer, x = nn.Conv2d(2, 3, 3, stride, padding=1, bias=False), torch.randn(4, 2, 5, 5)
    rows = seen_by(layer, x) @ layer.weight.flatten(1).T
    torch.testing.assert_close(rows, layer(x).permute(0, 2, 3, 1).flatten(0, 2))
