"""Sweeps of three-compartment neurons, beside the equations written neuron by neuron."""

from itertools import pairwise

import pytest
import torch

from functional.oracles import normal
from infohebb.functional import dynamics
from infohebb.functional.dynamics import Current, largest_step, move_multiplier, step_sizes

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

    own, constants = [slice(0, 4), slice(4, 7), slice(7, 9)], {"epsilon": EPSILON, "gain": GAIN, "leak": LEAK}
    conductance = 2 / EPSILON + LEAK
    currents = [
        Current(slice(0, 7), own[0], dynamics.hidden_weights(None, inverses[0], feedback[0], **constants),
                x @ weights[0].T / EPSILON, conductance, sparse[0]),
        Current(slice(0, 9), own[1], dynamics.hidden_weights(weights[1], inverses[1], feedback[1], **constants),
                None, conductance, sparse[1]),
        Current(slice(4, 9), own[2], dynamics.output_weights(weights[2], inverses[2], **constants),
                None, 1 / EPSILON + 1 + LEAK, sparse[2]),
    ]  # fmt: skip
    currents[-1] = dynamics.nudged(currents[-1], y, NUDGE)
    state, shown = torch.cat(rates, 1), []
    dynamics.settle(state, currents, steps, multipliers, lambda somata: shown.append([v.clone() for v in somata]))
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
    n, m = 4, 3
    r, above, V, X = normal(m, n).clamp(0, 1), normal(m, 2, seed=1), normal(n, 2, seed=2), normal(n, n, seed=3)
    B, W, x, y = X @ X.T, normal(n, 5, seed=4), normal(m, 5, seed=5), normal(m, n, seed=6)
    basal, constants = x @ W.T, {"epsilon": EPSILON, "gain": GAIN, "leak": LEAK}
    apical = dynamics.hidden_apical(r, above, V, B, **constants)
    K = dynamics.hidden_weights(None, B, V, **constants)
    ours = torch.cat((r, above), 1) @ K + basal / EPSILON - (2 / EPSILON + LEAK) * r
    torch.testing.assert_close(ours, (basal - r) / EPSILON + (apical - r) / EPSILON - LEAK * r, rtol=1e-12, atol=1e-12)

    free = Current(slice(0, n), slice(0, n), dynamics.output_weights(None, B, **constants), basal / EPSILON, 0.0)
    for current, wanted in ((free, None), (dynamics.nudged(free, y, NUDGE), y)):
        apical = dynamics.output_apical(r, B, wanted, gain=GAIN, leak=LEAK, nudge=NUDGE)
        ours = r @ current.weights + current.drive - (1 / EPSILON + 1 + LEAK) * r
        torch.testing.assert_close(ours, (basal - r) / EPSILON + (apical - r) - LEAK * r, rtol=1e-12, atol=1e-12)


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
