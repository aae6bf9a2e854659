"""Sweeps of three-compartment neurons, beside the equations written neuron by neuron."""

import math
from itertools import pairwise

import pytest
import torch

from functional.oracles import normal
from infohebb.functional import dynamics
from infohebb.functional.dynamics import Current, Somata, largest_step, move_multiplier, step_sizes

EPSILON, LEAK, GAIN, NUDGE = 0.15, 0.5, 0.05, -0.7


def test_steps_follow_their_schedule():
    assert step_sizes("constant", 3, 0.05, 0.001, 0.01) == [0.05] * 3
    assert step_sizes("divide_by_loop_index", 4, 0.05, 0.02, 0.01) == [0.05, 0.025, 0.02, 0.02]
    expected = [0.05, 0.05 / 1.5, 0.05 / 2, 0.02]
    assert step_sizes("divide_by_slow_loop_index", 4, 0.05, 0.02, 0.5) == pytest.approx(expected)


def test_a_step_below_the_bound_settles_and_one_above_runs_away():
    bound = largest_step(EPSILON, LEAK)
    assert bound == pytest.approx(0.1446, abs=5e-5)
    for step, rests in ((0.99 * bound, True), (1.01 * bound, False)):
        v = 1.0
        for _ in range(1000):
            v += step * (-(2 / EPSILON + LEAK) * v)
        assert (abs(v) < 1e-3) == rests


def slow_sweeps(x, y, weights, feedback, inverses, rates, multipliers, rates_of_multipliers, steps):
    """Section 3 of the page: sample by sample, layer by layer, neuron by neuron."""
    rates, multipliers = [r.clone() for r in rates], [q if q is None else q.clone() for q in multipliers]
    top = len(weights) - 1
    for sample in range(len(x)):
        v = [r[sample].clone() for r in rates]
        u = [None if q is None else q[sample, 0].clone() for q in multipliers]
        for h in steps:
            for k, (W, B) in enumerate(zip(weights, inverses, strict=True)):
                r, below = rates[k][sample], x[sample] if k == 0 else rates[k - 1][sample]
                q = multipliers[k]
                new = torch.empty_like(r)
                for i in range(len(r)):
                    basal, lateral = sum(W[i] * below), sum(B[i] * r)
                    dv = (basal - v[k][i]) / EPSILON + LEAK * (r[i] - v[k][i])
                    if k < top:
                        above = sum(feedback[k][i] * rates[k + 1][sample])
                        dv += (above - v[k][i]) / EPSILON + 2 * GAIN * lateral
                    else:
                        dv += GAIN * lateral - v[k][i] - NUDGE * (r[i] - y[sample, i])
                    new[i] = v[k][i] + h * (dv if q is None else dv - q[sample, 0])
                v[k] = new
                rates[k][sample] = new.clamp(0, 1) if q is None else new.clamp(min=0)
                if q is not None:
                    u[k] = u[k] + rates_of_multipliers[k] * (q[sample, 0] - u[k] + rates[k][sample].sum() - 1)
                    q[sample, 0] = max(float(u[k]), 0.0)
    return rates, multipliers


@pytest.mark.parametrize("sparse", [[None, None, None], [0.1, None, 0.2]], ids=["box", "sparse"])
def test_sweeps_are_the_equations_neuron_by_neuron(sparse):
    sizes, m = [5, 4, 3, 2], 3
    x, y = normal(m, 5, seed=1), torch.eye(2, dtype=torch.float64)[[0, 1, 1]]
    weights = [normal(above, below, seed=2 + k) for k, (below, above) in enumerate(pairwise(sizes))]
    feedback = [normal(sizes[k], sizes[k + 1], seed=9 + k) for k in (1, 2)]
    inverses = [(X @ X.T) for X in (normal(n, n, seed=20 + n) for n in sizes[1:])]
    rates = [normal(m, n, seed=30 + n).clamp(0, 1) for n in sizes[1:]]
    multipliers = [None if rate is None else torch.full((m, 1), 0.3, dtype=torch.float64) for rate in sparse]
    steps = [0.05, 0.04, 0.03]
    expected, left = slow_sweeps(x, y, weights, feedback, inverses, rates, multipliers, sparse, steps)

    own, hidden = [slice(0, 4), slice(4, 7), slice(7, 9)], (EPSILON, 2 * GAIN, LEAK, 2 / EPSILON + LEAK)
    output = (EPSILON, GAIN, LEAK, 1 / EPSILON + 1 + LEAK)
    first = Current(own[0], x @ weights[0].T / EPSILON, None, (own[1], feedback[0]), inverses[0], *hidden, sparse[0])
    second = Current(own[1], None, (own[0], weights[1]), (own[2], feedback[1]), inverses[1], *hidden, sparse[1])
    third = Current(own[2], None, (own[1], weights[2]), None, inverses[2], *output, sparse[2]).nudged(y, NUDGE)
    state, shown = torch.cat(rates, 1), []
    layers = [Somata(state, each, q) for each, q in zip((first, second, third), multipliers, strict=True)]
    dynamics.settle(layers, steps, lambda somata: shown.append([v.clone() for v in somata]))
    for columns, wanted in zip(own, expected, strict=True):
        torch.testing.assert_close(state[:, columns], wanted, rtol=1e-12, atol=1e-12)
    for q, wanted in zip(multipliers, left, strict=True):
        assert (q is None) == (wanted is None)
        if q is not None:
            torch.testing.assert_close(q, wanted, rtol=1e-12, atol=1e-12)
    assert len(shown) == len(steps)
    upper = None if sparse[0] is not None else 1
    torch.testing.assert_close(shown[-1][0].clamp(0, upper), state[:, own[0]])


def test_the_current_is_what_the_three_compartments_send_the_soma():
    """One sweep from potentials that are rates, of a hidden layer and of an output with and without a nudge."""
    n, m, h = 4, 3, 1e-3
    r, above, V, X = normal(m, n).clamp(0.2, 0.8), normal(m, 2, seed=1), normal(n, 2, seed=2), normal(n, n, seed=3)
    B, y, state = X @ X.T, normal(m, n, seed=6), torch.cat((r, above), 1)
    basal, constants = normal(m, n, seed=5), {"gain": GAIN, "leak": LEAK}
    of_all = (slice(0, n), basal / EPSILON, None)
    hidden = Current(*of_all, (slice(n, n + 2), V), B, EPSILON, 2 * GAIN, LEAK, 2 / EPSILON + LEAK)
    output = Current(*of_all, None, B, EPSILON, GAIN, LEAK, 1 / EPSILON + 1 + LEAK)
    apical = dynamics.hidden_apical(r, above, V, B, epsilon=EPSILON, **constants)
    free, told = (dynamics.output_apical(r, B, wanted, nudge=NUDGE, **constants) for wanted in (None, y))
    cases = [(hidden, apical, 1 / EPSILON), (output, free, 1.0), (output.nudged(y, NUDGE), told, 1.0)]
    for current, potential, conductance in cases:
        layer = Somata(state.clone(), current)
        layer.sweep(h)
        expected = r + h * ((basal - r) / EPSILON + conductance * (potential - r) - LEAK * r)
        torch.testing.assert_close(layer.potential, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_lateral_current_that_is_kept_does_not_show(dtype):
    """Kept while it cannot matter: no further from double precision than where it is renewed at each sweep."""
    n, m = 200, 8
    X = normal(n, n, seed=3) / n**0.5
    drive, B = 3 * normal(m, n, seed=1).to(dtype), (X @ X.T).to(dtype)
    gain, conductance = 2e-5, 2 / EPSILON + LEAK
    tolerance, ends, renewed = dynamics.lateral_tolerance(B, gain, conductance), {}, 0
    assert (tolerance > 0) == (dtype == torch.float32)
    for name, kind, allowed in (("exact", torch.float64, 0.0), ("kept", dtype, tolerance), ("renewed", dtype, 0.0)):
        state = torch.zeros(m, n, dtype=kind)
        made = (EPSILON, gain, LEAK, conductance, None, allowed)
        layer = Somata(state, Current(slice(0, n), drive.to(kind), None, None, B.to(kind), *made))
        for _ in range(40):
            before = layer.steady
            layer.sweep(0.05)
            renewed += name == "kept" and layer.steady is not before
        ends[name] = state.double()
    kept, each = (float((ends[name] - ends["exact"]).abs().max()) for name in ("kept", "renewed"))
    assert kept <= each + torch.finfo(dtype).eps / 2
    assert dtype == torch.float64 or 0 < renewed < 20


def test_a_strong_gain_and_a_few_neurons_are_read_at_each_sweep_and_a_gain_of_zero_never():
    wide = torch.eye(100)
    assert dynamics.lateral_tolerance(wide, 2e-5, 13.8) > 0
    assert dynamics.lateral_tolerance(wide, 0.2, 13.8) == 0
    assert dynamics.lateral_tolerance(wide, 0.0, 13.8) == math.inf
    assert dynamics.lateral_tolerance(torch.eye(10), 2e-5, 13.8) == 0


def test_the_interneuron_holds_the_sum_of_rates_down_to_one():
    """Projected dual ascent on min ½‖r - a‖² with Σ r ≤ 1 and r ≥ 0 ends at the projection."""
    a = torch.tensor([[0.9, 0.7, 0.1, -0.2]], dtype=torch.float64)
    u, q = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(2000):
        rates = (a - q).clamp(min=0)
        move_multiplier(u, q, rates, 0.05)
    torch.testing.assert_close(rates, torch.tensor([[0.6, 0.4, 0.0, 0.0]], dtype=torch.float64), rtol=0, atol=1e-9)


def test_an_interneuron_is_silent_where_rates_sum_to_less():
    u, q = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    rates = torch.tensor([[0.2, 0.3], [0.9, 0.8]], dtype=torch.float64)
    for _ in range(3):
        move_multiplier(u, q, rates, 0.1)
    assert u[0] < 0
    assert q[0] == 0
    assert q[1] > 0
