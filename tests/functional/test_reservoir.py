"""The reservoir against the reference's own numbers; recursive least squares against the solution it recurs to."""

import torch

from functional.oracles import assert_close, golden, normal
from infohebb.functional.reservoir import Weights, advance, least_mean_squares_, recursive_least_squares_


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
