"""Predictive coding's closed forms against autograd of its energy, at any depth."""

from itertools import pairwise

import pytest
import torch

from functional.oracles import assert_close, derivative, normal
from infohebb.functional import plasticity, predictive
from infohebb.functional.predictive import RATES, Predictor

DEPTHS = [[6, 4], [6, 5, 4], [7, 6, 5, 4], [7, 6, 5, 4, 3]]
M, STEP, NUDGE = 3, 0.1, -0.3
PLAIN = {"sigmoid": lambda z: 1 / (1 + torch.exp(-z)), "relu": lambda z: z * (z > 0)}
every = [(sizes, rate) for sizes in DEPTHS for rate in PLAIN]


def network(sizes, rate):
    """Input, values, what is wanted, and synapses."""
    weights = [normal(above, below, seed=k) / below**0.5 for k, (below, above) in enumerate(pairwise(sizes))]
    biases = [normal(above, seed=10 + k) / 10 for k, above in enumerate(sizes[1:])]
    values = [normal(M, size, seed=30 + k) for k, size in enumerate(sizes[1:])]
    return normal(M, sizes[0], seed=40), values, normal(M, sizes[-1], seed=41), Predictor(weights, biases, RATES[rate])


def plain_energy(x, values, rate, weights, biases):
    """Σ‖e_k‖² sample by sample, from its definition; the input predicts as it is."""
    total = 0
    for i in range(M):
        received = [x[i], *(PLAIN[rate](z[i]) for z in values[:-1])]
        for z, r, W, b in zip(values, received, weights, biases, strict=True):
            total = total + ((z[i] - W @ r - b) ** 2).sum()
    return total


def slopes(function, values):
    found = derivative(function, *values)
    return [found] if len(values) == 1 else list(found)


@pytest.mark.parametrize(("sizes", "rate"), every)
def test_energy_is_its_definition(sizes, rate):
    x, values, wanted, predictor = network(sizes, rate)
    plain = plain_energy(x, values, rate, predictor.weights, predictor.biases)
    assert_close(predictive.energy(x, values, predictor).sum(), plain, 1e-12)
    nudged = plain + NUDGE * ((values[-1] - wanted) ** 2).sum()
    assert_close(predictive.energy(x, values, predictor, wanted, NUDGE).sum(), nudged, 1e-12)


@pytest.mark.parametrize(("sizes", "rate"), every)
def test_no_prediction_errs_after_a_sweep(sizes, rate):
    x, _, _, predictor = network(sizes, rate)
    values, z = predictive.sweep(x, predictor), x
    for k, (W, b) in enumerate(zip(predictor.weights, predictor.biases, strict=True)):
        z = (PLAIN[rate](z) if k else z) @ W.T + b
        assert_close(values[k], z, 1e-12)
    assert predictive.energy(x, values, predictor).max() < 1e-24


@pytest.mark.parametrize(("sizes", "rate"), every)
def test_with_a_clamped_output_hidden_values_go_down_half_the_energy(sizes, rate):
    x, values, wanted, predictor = network(sizes, rate)
    start = [predictive.sweep(x, predictor)[0], *values[1:]]
    before = [z.clone() for z in start]
    expected = [*start[:-1], wanted]
    for _ in range(3):
        down = slopes(lambda *z: plain_energy(x, z, rate, predictor.weights, predictor.biases) / 2, expected)
        expected = [z - STEP * slope for z, slope in zip(expected[:-1], down[:-1], strict=True)] + [wanted]
    got = predictive.settle_clamped(start, predictor, wanted, STEP, 3)
    for k, z in enumerate(expected):
        assert_close(got.values[k], z, 1e-12)
        assert torch.equal(start[k], before[k])


@pytest.mark.parametrize(("sizes", "rate"), every)
def test_with_a_nudged_output_all_values_go_down_the_energy(sizes, rate):
    x, values, wanted, predictor = network(sizes, rate)
    start = [predictive.sweep(x, predictor)[0], *values[1:]]
    before = [z.clone() for z in start]
    expected = start

    def nudged(*z):
        pull = NUDGE * ((z[-1] - wanted) ** 2).sum()
        return plain_energy(x, z, rate, predictor.weights, predictor.biases) + pull

    for _ in range(3):
        expected = [z - STEP * slope for z, slope in zip(expected, slopes(nudged, expected), strict=True)]
    got = predictive.settle_nudged(start, predictor, wanted, NUDGE, STEP, 3)
    for k, z in enumerate(expected):
        assert_close(got.values[k], z, 1e-12)
        assert torch.equal(start[k], before[k])


@pytest.mark.parametrize(("sizes", "rate"), every)
def test_synapses_learn_to_err_less(sizes, rate):
    x, values, _, predictor = network(sizes, rate)
    depth = len(values)
    expected = derivative(
        lambda *p: plain_energy(x, values, rate, p[:depth], p[depth:]), *predictor.weights, *predictor.biases
    )
    settled = predictive.assess(predictive.predict_next(x, 0, predictor), values, predictor)
    for k, (pre, error) in enumerate(predictive.ends(x, settled, 2.0)):
        assert_close(plasticity.hebbian(pre, error), expected[k], 1e-12)
        assert_close(error.sum(0), expected[depth + k], 1e-12)


@pytest.mark.parametrize("clamped", [True, False])
@pytest.mark.parametrize(("sizes", "rate"), every)
def test_the_energy_falls_along_settling(sizes, rate, clamped):
    x, _, wanted, predictor = network(sizes, rate)
    start, course = predictive.sweep(x, predictor), []
    for steps in range(30):
        if clamped:
            values = predictive.settle_clamped(start, predictor, wanted, 0.05, steps).values
        else:
            values = predictive.settle_nudged(start, predictor, wanted, 0.5, 0.05, steps).values
        course.append(predictive.energy(x, values, predictor, wanted, 0.5))
    fall = -torch.stack(course).diff(dim=0)
    most = fall if rate == "sigmoid" else fall[:3]  # at the kink of a ReLU a step may go too far
    assert most.min() >= -1e-12
    assert (clamped and len(sizes) == 2) or fall.sum(0).max() > 1e-3


def test_bf16_rounds_products_but_the_outputs():
    x, _, wanted, predictor = network([70, 300, 300, 4], "sigmoid")
    parts = [[tensor.float() for tensor in part] for part in predictor[:2]]
    x, wanted = x.float(), wanted.float()
    full, rounded = (Predictor(*parts, RATES["sigmoid"], precision) for precision in ("fp32", "bf16"))
    start = predictive.sweep(x, full)
    got, expected = (predictive.settle_clamped(start, p, wanted, STEP, 5).values[0] for p in (rounded, full))
    assert (got - expected).abs().max() > 1e-7
    assert_close(got, expected, 2e-2)
    output = predictive.predict_next(start[1].sigmoid(), 2, rounded)
    assert torch.equal(output, predictive.predict_next(start[1].sigmoid(), 2, full))
