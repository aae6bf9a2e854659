"""Statistics at a fixed seed: each bound is a number of standard deviations that a right answer stays within."""

import math

import pytest
import torch

from functional.oracles import normal
from infohebb.functional import dropout as module
from infohebb.functional.dropout import alpha_dropout, dropout, random_positions

SATURATION = -1.7580993408473766  # of SELU
UNITS, DRAWS = 1000, 400
rates = pytest.mark.parametrize("rate", [0.01, 0.05, 0.5, 0.95])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(3)


def draws(rate, units=UNITS, count=DRAWS):
    """Which units each of many draws drops (draws × units)."""
    dropped = torch.zeros(count, units, dtype=torch.float64)
    for row in dropped:
        row[random_positions(units, rate)] = 1
    return dropped


@rates
def test_the_rate_and_the_spread_of_the_count_are_binomial(rate):
    counts = draws(rate).sum(1)
    variance = UNITS * rate * (1 - rate)
    assert abs(counts.mean() - UNITS * rate) < 4 * math.sqrt(variance / DRAWS)
    assert abs(counts.var() / variance - 1) < 4 * math.sqrt(2 / DRAWS)


@rates
def test_every_position_is_as_likely_as_the_others(rate):
    per_position = draws(rate).sum(0)
    chi_square = ((per_position - DRAWS * rate) ** 2 / (DRAWS * rate * (1 - rate))).sum()
    assert abs(chi_square - UNITS) < 4 * math.sqrt(2 * UNITS)


def test_positions_beyond_the_first_handful_of_gaps_are_as_likely_as_the_others(monkeypatch):
    """The first handful nearly always reaches the end; here it never does."""
    draw = module._cumulate
    monkeypatch.setattr(module, "_cumulate", lambda draws, rate, start: draw(min(draws, 7), rate, start))
    per_position = draws(0.3, units=60, count=2000).sum(0)
    deviation = (per_position - 2000 * 0.3).abs().max()
    assert deviation < 4 * math.sqrt(2000 * 0.3 * 0.7)


@rates
@pytest.mark.parametrize("ends", [[0], [UNITS - 1]])
def test_the_first_and_the_last_position_are_as_likely_as_the_others(rate, ends):
    hits = draws(rate, count=2000)[:, ends].mean()
    assert abs(hits - rate) < 4 * math.sqrt(rate * (1 - rate) / 2000)


@rates
@pytest.mark.parametrize("distance", [1, 2, 7])
def test_units_at_a_distance_are_dropped_together_as_often_as_chance_has_it(rate, distance):
    dropped = draws(rate) - rate
    correlation = (dropped[:, distance:] * dropped[:, :-distance]).mean() / (rate * (1 - rate))
    assert abs(correlation) < 4 / math.sqrt(DRAWS * (UNITS - distance))


@pytest.mark.parametrize("count", [0, 1, 2, 17, 1000])
@pytest.mark.parametrize("rate", [0.001, 0.3, 0.999])
def test_positions_are_sorted_different_and_inside(count, rate):
    for _ in range(50):
        positions = random_positions(count, rate).tolist()
        assert positions == sorted(set(positions))
        assert all(0 <= position < count for position in positions)


def test_nothing_is_dropped_at_rate_zero():
    x = normal(6, 5)
    assert random_positions(30, 0.0).tolist() == []
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(alpha_dropout(x, 0.0), x)


def test_kept_units_are_scaled_up_and_dropped_ones_are_zero():
    x = normal(40, 50)
    got = dropout(x, 0.3)
    dropped = got == 0
    assert 0 < dropped.sum() < x.numel()
    torch.testing.assert_close(got[~dropped], x[~dropped] / 0.7, rtol=1e-14, atol=0)


def test_alpha_dropout_is_the_formula():
    rate, x = 0.2, normal(40, 50)
    got = alpha_dropout(x, rate)
    A = 1 / math.sqrt((1 - rate) * (1 + rate * SATURATION**2))
    B = -A * SATURATION * rate
    dropped = (got - (A * SATURATION + B)).abs() < 1e-12
    assert abs(dropped.double().mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / x.numel())
    torch.testing.assert_close(got[~dropped], A * x[~dropped] + B, rtol=0, atol=1e-14)


def test_alpha_dropout_has_torchs_two_outcomes_for_a_constant():
    x = torch.full((2000,), 0.7, dtype=torch.float64)
    ours, theirs = alpha_dropout(x, 0.2), torch.nn.functional.alpha_dropout(x, 0.2, training=True)
    assert len(theirs.unique()) == 2
    torch.testing.assert_close(ours.unique(), theirs.unique(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_dropout_keeps_the_mean(rate):
    got = dropout(torch.ones(400_000, dtype=torch.float64), rate)
    assert abs(got.mean() - 1) < 4 * math.sqrt(rate / (1 - rate) / 400_000)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_alpha_dropout_keeps_mean_zero_and_variance_one(rate):
    got = alpha_dropout(normal(400_000), rate)
    assert abs(got.mean()) < 4 / math.sqrt(400_000)
    assert abs(got.var() - 1) < 4 * math.sqrt(2 / 400_000)


@pytest.mark.parametrize("drop", [dropout, alpha_dropout])
def test_the_same_seed_drops_the_same_units(drop):
    x, results = normal(30, 30), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(drop(x, 0.3))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("drop", [dropout, alpha_dropout])
def test_the_units_given_are_left_as_they_are(drop):
    x = normal(30, 30)
    before = x.clone()
    assert not torch.equal(drop(x, 0.3), before)
    assert torch.equal(x, before)


@pytest.mark.parametrize("drop", [dropout, alpha_dropout])
def test_autograd_passes_only_where_a_unit_is_kept(drop):
    x = normal(20, 20).requires_grad_()
    got = drop(x, 0.3)
    got.sum().backward()
    kept = (x.grad != 0).double()
    assert 0 < kept.sum() < x.numel()
    assert len(x.grad.unique()) == 2
    assert len(got[kept == 0].unique()) == 1


@pytest.mark.parametrize("kind", ["dropout", "alpha_dropout"])
def test_errors_pass_where_units_were_kept(kind):
    x = normal(5, 3, 4, 2).requires_grad_()
    struck = module.strike(x, 0.4)
    y = getattr(module, kind)(x, 0.4, struck)
    error = normal(*x.shape, seed=1)
    y.backward(error)
    assert torch.equal(getattr(module, f"{kind}_backward")(error, 0.4, struck), x.grad)
    mask = module.dropout(torch.ones_like(x), 0.4, struck) == 0  # as off the CPU
    assert torch.equal(getattr(module, kind)(x, 0.4, mask), y)
    assert torch.equal(getattr(module, f"{kind}_backward")(error, 0.4, mask), x.grad)


@pytest.mark.parametrize("kind", ["dropout", "alpha_dropout"])
def test_a_seed_drops_the_same_units_however_a_map_lies_in_memory(kind):
    x, found = normal(5, 3, 4, 2), []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        found.append(getattr(module, kind)(x.contiguous(memory_format=layout), 0.4))
    assert torch.equal(*found)
    assert found[1].is_contiguous(memory_format=torch.channels_last)
