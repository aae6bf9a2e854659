"""Stream forms: over all pairs they are the batch rule; eligibility traces sum to the two-point rule."""

import pytest
import torch

from functional.oracles import assert_close, normal
from functional.test_pairwise import GAMMA, GROUPED_SIGMA, LABELS, SIGMA, batch_update, every_nonlinearity, layer
from infohebb.functional import grouping, online
from infohebb.functional.kernels import gaussian_gram, label_gram
from infohebb.functional.plasticity import hebbian, modulate

GROUPS, POWER, DELTA = 4, 0.8, 1.0


def update(rows):
    return hebbian(rows.pre, modulate(rows.third_factor, rows.post))


def factor(change, k_y, kappa_z, kappa_y, sigma):
    return online.pair_factor(online.gaussian_similarity(change, sigma), k_y, kappa_z, kappa_y, sigma, GAMMA)


def moments(nonlinearity):
    """Input, slope, and of each moment what the grouped rule takes: r f' and v."""
    x, _, z, slope = layer(nonlinearity)
    grouped = grouping.group(z, GROUPS, DELTA)
    return (
        x,
        z,
        slope,
        grouping.normalise_groups(grouped, 1 - POWER) * slope,
        grouping.group_signal(grouped.variance, POWER),
    )


def pairs(signal, sigma):
    """κ of the batch, and each ordered pair of moments with its M, self pairs included."""
    K, Y = gaussian_gram(signal, sigma), label_gram(LABELS, 3, torch.float64)
    for i in range(len(signal)):
        for j in range(len(signal)):
            yield i, j, factor(signal[i] - signal[j], Y[i, j], K.mean(), Y.mean(), sigma)


@every_nonlinearity
def test_plain_two_points_over_all_pairs_are_the_batch_update(nonlinearity):
    x, z, slope, _, _ = moments(nonlinearity)
    total = 0
    for i, j, M in pairs(z, SIGMA):
        change = z[i] - z[j]
        total += update(online.two_points(M[None], change * slope[i], change * slope[j], x[i], x[j]))
    assert_close(total / len(z) ** 2, batch_update(nonlinearity, sigma=SIGMA), 1e-12)


@every_nonlinearity
def test_grouped_two_points_over_all_pairs_are_the_batch_update(nonlinearity):
    x, _, _, post, v = moments(nonlinearity)
    total = 0
    for i, j, M in pairs(v, GROUPED_SIGMA):
        total += update(online.two_points(M * (v[i] - v[j]), post[i], post[j], x[i], x[j]))
    size = post.shape[1] // GROUPS
    expected = batch_update(nonlinearity, sigma=GROUPED_SIGMA, groups=GROUPS, power=POWER, delta=DELTA)
    assert_close(total * (2 * POWER / size) / len(v) ** 2, expected, 1e-12)


def test_with_a_slope_of_one_the_plain_rule_is_change_times_change():
    z, x = normal(2, 8), normal(2, 5, seed=1)
    change = z[0] - z[1]
    M = torch.tensor([0.7], dtype=torch.float64)
    rows = online.two_points(M, change, change, x[0], x[1])
    assert_close(update(rows), 0.7 * torch.outer(change, x[0] - x[1]), 1e-13)
    assert_close(update(online.running_activity(M, change, x[0], x[1])), update(rows), 1e-13)
    assert_close(update(online.running_hebb(M, change, change, x[0], x[1])), update(rows), 1e-13)


@pytest.mark.parametrize("kind", ["grouped", "plain"])
def test_eligibility_traces_sum_to_the_two_point_rule_but_for_the_ends(kind):
    x, z, slope, post, v = moments("leaky_relu")
    signal, sigma = (v, GROUPED_SIGMA) if kind == "grouped" else (z, SIGMA)
    kappa = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-0.1, dtype=torch.float64)
    own = post if kind == "grouped" else slope  # of each stimulus alone: the plain rule's Δz is in its factor
    order = [0, 3, 1, 1, 5, 2, 4, 0]
    factors, Y = {}, label_gram(LABELS, 3, torch.float64)
    for t in range(1, len(order)):
        now, before = order[t], order[t - 1]
        change = signal[now] - signal[before]
        factors[t] = factor(change, Y[now, before], *kappa, sigma) * change  # M Δs, one number for each group or neuron
    two, traces = 0, 0
    for t in range(1, len(order)):
        now, before = order[t], order[t - 1]
        two += update(online.two_points(factors[t], own[now], own[before], x[now], x[before]))
    for t in range(1, len(order) - 1):
        traces += update(online.eligible(factors[t], factors[t + 1], own[order[t]], x[order[t]]))
    zero = torch.zeros_like(factors[1])
    first = update(online.eligible(zero, factors[1], own[order[0]], x[order[0]]))
    last = update(online.eligible(factors[len(order) - 1], zero, own[order[-1]], x[order[-1]]))
    assert_close(traces + first + last, two, 1e-12)
