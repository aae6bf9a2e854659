"""Correlations, their running inverses, and correlative information in its three forms."""

import math

import pytest
import torch

from functional.oracles import normal
from infohebb.functional import correlation as module
from infohebb.functional.correlation import (
    captured_information,
    correlation,
    correlative_information,
    exact_running_inverse,
    log_determinant,
    predictive_information,
    ridge_predictor,
    running_correlation,
    running_inverse,
)

EPSILON = 0.15


def layers(samples=40, below=6, above=4, seed=0):
    a = normal(samples, below, seed=seed)
    return a, a[:, :above].tanh() + 0.3 * normal(samples, above, seed=seed + 1)


def joint(a, b, epsilon):
    """Section 1 of the definition, block by block."""
    R_a, R_b, R_ab = a.T @ a / len(a), b.T @ b / len(b), a.T @ b / len(a)
    whole = torch.cat((torch.cat((R_a, R_ab), 1), torch.cat((R_ab.T, R_b), 1)))
    parts = (R + epsilon * torch.eye(len(R), dtype=R.dtype) for R in (R_a, R_b, whole))
    one, other, both = (torch.slogdet(part)[1] for part in parts)
    return (one + other - both) / 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_correlative_information_has_one_value_in_all_its_forms(seed):
    a, b = layers(seed=seed)
    expected = joint(a, b, EPSILON)
    assert float(expected) > 0.1
    for value in (
        correlative_information(a, b, EPSILON),
        correlative_information(b, a, EPSILON),
        predictive_information(a, b, EPSILON),
        predictive_information(b, a, EPSILON),
    ):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


def test_activities_without_correlation_say_nothing_of_each_other():
    a, b = torch.eye(8, dtype=torch.float64)[:, :3], torch.eye(8, dtype=torch.float64)[:, 3:6]
    assert abs(float(correlative_information(a, b, EPSILON))) < 1e-12
    assert float(correlative_information(a, a, EPSILON)) > 0.01


def test_any_other_weights_capture_less_than_the_ridge_predictor():
    a, b = layers()
    best = ridge_predictor(a, b, EPSILON)
    whole = correlative_information(a, b, EPSILON)
    torch.testing.assert_close(captured_information(a, b, best, EPSILON), whole, rtol=1e-12, atol=1e-12)
    other = best + 0.1 * normal(*best.shape, seed=9)
    moved = (other - best) @ (correlation(a) + EPSILON * torch.eye(a.shape[1], dtype=a.dtype)) @ (other - best).T
    left = correlation(b - a @ best.T) + EPSILON * best @ best.T + moved
    expected = (log_determinant(correlation(b), EPSILON) - log_determinant(left, EPSILON)) / 2
    torch.testing.assert_close(captured_information(a, b, other, EPSILON), expected, rtol=1e-12, atol=1e-12)
    assert captured_information(a, b, other, EPSILON) < whole


def test_the_ridge_predictor_minimises_its_cost():
    a, b = layers()
    weight = ridge_predictor(a, b, EPSILON).requires_grad_()
    cost = (b - a @ weight.T).square().sum(1).mean() + EPSILON * weight.square().sum()
    (slope,) = torch.autograd.grad(cost, weight)
    assert float(slope.abs().max()) < 1e-12
    left = correlation(b) - correlation(b, a) @ torch.linalg.solve(
        correlation(a) + EPSILON * torch.eye(6, dtype=a.dtype), correlation(a, b)
    )
    torch.testing.assert_close(cost.detach(), left.trace(), rtol=1e-12, atol=1e-12)  # eq. (1) of the page


def test_a_log_determinant_is_at_most_its_first_order():
    small = correlation(0.01 * normal(30, 5))
    first_order = 5 * math.log(EPSILON) + float(small.trace()) / EPSILON
    assert 0 <= first_order - float(log_determinant(small, EPSILON)) < 1e-4 * abs(first_order)


@pytest.mark.parametrize("forgetting", [0.9, 0.99999])
def test_the_exact_recursion_inverts_the_running_correlation(forgetting):
    before = correlation(normal(30, 6)) + 0.1 * torch.eye(6, dtype=torch.float64)
    inverse = torch.linalg.inv(before)
    for seed in range(3):
        rates = normal(4, 6, seed=seed + 5).clamp(0, 1)
        before, inverse = (
            running_correlation(before, rates, forgetting),
            exact_running_inverse(inverse, rates, forgetting),
        )
        torch.testing.assert_close(inverse, torch.linalg.inv(before), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("forgetting", [0.9, 0.99999])
def test_the_published_recursion_is_sample_by_sample_what_the_page_says(forgetting):
    before, rates, gamma = correlation(normal(30, 6)), normal(4, 6, seed=3).clamp(0, 1), (1 - forgetting) / forgetting
    summed = torch.zeros_like(before)
    for rate in rates:
        z = before @ rate
        summed += torch.outer(z, z)
    expected = (before - gamma / len(rates) * summed) / forgetting
    torch.testing.assert_close(running_inverse(before, rates, forgetting), expected, rtol=1e-12, atol=1e-12)


def test_the_published_recursion_is_the_exact_one_to_first_order():
    inverse, rates = torch.linalg.inv(correlation(normal(30, 6))), normal(1, 6, seed=3)
    differences = [
        float((running_inverse(inverse, rates, 1 - g) - exact_running_inverse(inverse, rates, 1 - g)).norm())
        for g in (1e-4, 1e-5)
    ]
    assert differences[0] > 0
    assert differences[1] == pytest.approx(differences[0] / 100, rel=0.02)


@pytest.mark.parametrize("name", ["running_inverse", "exact_running_inverse"])
def test_recursions_may_write_over_the_matrix_before(name):
    recursion, before, rates = getattr(module, name), correlation(normal(30, 6)), normal(4, 6, seed=3)
    expected = recursion(before, rates, 0.9)
    assert recursion(before, rates, 0.9, out=before) is before
    assert torch.equal(before, expected)
