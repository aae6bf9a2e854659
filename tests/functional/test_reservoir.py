"""The reservoir against the reference's own numbers; recursive least squares against the solution it recurs to."""

import pytest
import torch

from functional.oracles import assert_close, golden, normal
from infohebb.functional.reservoir import (
    Weights,
    advance,
    advance_held,
    explained,
    least_mean_squares_,
    recursive_least_squares_,
    ridge,
)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def read(name):
    arrays = golden(f"../wmh/{name}")
    weights = Weights(arrays["W_r"], arrays["W_i"], arrays["W_f"])
    return arrays, weights, float(arrays["recurrent_strength"]), float(arrays["dt"] / arrays["tau"])


def test_with_a_fixed_readout_it_goes_as_the_references_does():
    arrays, weights, strength, k = read("reservoir_lms")
    u = torch.zeros(40, dtype=torch.float64)
    for t, s in enumerate(arrays["free_input"]):
        u, rates, output = advance(u, s, weights, arrays["W_o0"], strength, k)
        for ours, name in ((u, "u"), (rates, "r"), (output, "out")):
            close(ours, arrays[f"free_{name}"][t])


def test_least_mean_squares_is_the_references():
    arrays, weights, strength, k = read("reservoir_lms")
    N, steps, rate = (arrays[name].item() for name in ("N", "ntimesteps", "lr"))
    u, readout = torch.zeros(40, dtype=torch.float64), arrays["W_o0"].clone()
    snaps = dict(zip(arrays["lms_W_o_steps"].tolist(), arrays["lms_W_o"], strict=True))
    for t in range(4 * steps):
        window, last = t // steps, t // steps + N - 1
        s = torch.cat([arrays[name][last].double() for name in "XYZ"])
        u, rates, output = advance(u, s, weights, readout, strength, k)
        error = output - arrays["lms_targets_head"][window]
        close(error.square().mean(), arrays["lms_loss_per_step"][t])
        least_mean_squares_(readout, rates, error, rate)
        close(u, arrays["lms_u"][t])
        if t + 1 in snaps:
            close(readout, snaps[t + 1])


def test_recursive_least_squares_is_the_textbooks():
    arrays, weights, strength, k = read("force_rls_nonref")
    n = len(arrays["W_r"])
    u, readout = torch.zeros(n, dtype=torch.float64), arrays["W_o"][0].clone()
    inverse = torch.eye(n, dtype=torch.float64) / arrays["alpha"].item()
    snaps = {step: place for place, step in enumerate(arrays["snap_steps"].tolist())}
    for t, (s, target) in enumerate(zip(arrays["inputs"], arrays["targets"], strict=True)):
        u, rates, output = advance(u, s, weights, readout, strength, k)
        close(output, arrays["out"][t])
        recursive_least_squares_(readout, inverse, rates, output - target)
        close(u, arrays["u"][t])
        if t in snaps:
            close(readout, arrays["W_o"][snaps[t] + 1])
            close(inverse, arrays["P"][snaps[t]])


def test_recursive_least_squares_is_ridge_regression_of_all_it_has_seen():
    R, targets, alpha = normal(20, 6), normal(20, 3, seed=1), 0.4
    readout, inverse = torch.zeros(6, 3, dtype=torch.float64), torch.eye(6, dtype=torch.float64) / alpha
    for rates, target in zip(R, targets, strict=True):
        recursive_least_squares_(readout, inverse, rates, rates @ readout - target)
    ridge = R.T @ R + alpha * torch.eye(6, dtype=torch.float64)
    assert_close(inverse, torch.linalg.inv(ridge), 1e-10)
    assert_close(readout, torch.linalg.solve(ridge, R.T @ targets), 1e-10)


def test_noise_is_added_to_rates_and_output():
    arrays, weights, strength, k = read("reservoir_lms")
    u, s, noise = normal(40), arrays["free_input"][0], (normal(40, seed=2), normal(4, seed=3))
    rates, output = advance(u, s, weights, arrays["W_o0"], strength, k, noise)[1:]
    close(rates, u.tanh() + noise[0])
    close(output, rates @ arrays["W_o0"] + noise[1])


@pytest.mark.parametrize(("rows", "units"), [(30, 7), (7, 30)])
def test_ridge_regression_solves_its_equations_whichever_side_is_shorter(rows, units):
    R, targets, penalties = normal(rows, units), normal(rows, 3, seed=1), (0.01, 2.0)
    for penalty, found in zip(penalties, ridge(R, targets, penalties), strict=True):
        eye = penalty * torch.eye(units, dtype=torch.float64)
        assert_close(found, torch.linalg.solve(R.T @ R + eye, R.T @ targets), 1e-9)


def test_explained_is_one_for_the_target_and_zero_for_its_mean():
    targets = normal(20, 3)
    assert_close(explained(targets, targets), torch.ones(3, dtype=torch.float64), 1e-12)
    assert explained(targets.mean(0).expand(20, 3), targets).abs().max() < 1e-12
    worse = explained(-targets, targets - targets.mean(0))
    assert (worse < 0).all()


def test_several_runs_at_once_are_each_alone():
    arrays, weights, strength, _ = read("reservoir_lms")
    u, s, k = normal(5, 40), normal(5, 13, seed=1), torch.linspace(0.1, 1, 40, dtype=torch.float64)
    together = advance(u, s, weights, arrays["W_o0"], strength, k)
    for run in range(5):
        alone = advance_held(u[run], s[run] @ weights.inputs, weights, arrays["W_o0"], strength, k)
        for one, all_of_them in zip(alone, together, strict=True):
            close(one, all_of_them[run])


def test_a_readout_of_fewer_rows_reads_the_last_units():
    _, weights, strength, k = read("reservoir_lms")
    u, s, readout = normal(40), normal(13, seed=1), normal(6, 4, seed=2)
    whole = torch.cat([torch.zeros(34, 4, dtype=torch.float64), readout])
    for some, all_of_them in zip(
        advance(u, s, weights, readout, strength, k), advance(u, s, weights, whole, strength, k), strict=True
    ):
        close(some, all_of_them)
