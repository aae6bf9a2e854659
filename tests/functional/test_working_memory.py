"""Kernels, objective and modulators of a window against the reference's own numbers, autograd, and plain loops."""

import pytest
import torch

from functional.oracles import assert_close, golden, normal
from infohebb.functional.kernels import gaussian_gram
from infohebb.functional.working_memory import (
    MODULATORS,
    memory_weights,
    modulate_current,
    window_hsic,
)


def scaled_gaussian_gram(V, sigma):
    return gaussian_gram(V, sigma, "per_sqrt_dim")


def coupling(x, y, sigmas, gamma):
    return scaled_gaussian_gram(x.flatten(1), sigmas[0]) - gamma * scaled_gaussian_gram(y, sigmas[1])


def objective(x, y, z, sigmas, gamma):
    K = scaled_gaussian_gram(z, sigmas[2])
    against = (scaled_gaussian_gram(x, sigmas[0]), scaled_gaussian_gram(y, sigmas[1]))
    compression, relevance = (window_hsic(A, K) for A in against)
    return compression - gamma * relevance


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prefix", ["a0", "a1", "b0", "b1", "c0", "c1"])
def test_kernels_and_objective_are_the_references(prefix):
    arrays = golden("../wmh/kernels_hsic")
    x, y, z, sigmas = (arrays[f"{prefix}_{name}"] for name in ("x", "y", "z", "sigmas"))
    grams = [scaled_gaussian_gram(V.double(), float(sigma)) for V, sigma in zip((x, y, z), sigmas, strict=True)]
    for gram, name in zip(grams, "xyz", strict=True):
        close(gram, arrays[f"{prefix}_K{name}"])
    for gamma in (2, 10, 50):
        key = f"{prefix}_g{gamma}"
        close(window_hsic(grams[0], grams[2]), arrays[f"{key}_hsic_x"])
        close(window_hsic(grams[1], grams[2]), arrays[f"{key}_hsic_y"])
        leaf = z.clone().requires_grad_()
        value = objective(x, y.double(), leaf, sigmas.tolist(), float(gamma))
        close(value.detach(), arrays[f"{key}_obj"])
        close(torch.autograd.grad(value, leaf)[0], arrays[f"{key}_dobj_dz"])


@pytest.mark.parametrize("prefix", ["n6", "n2", "n10", "conv"])
def test_modulators_are_the_references(prefix):
    arrays = golden("../wmh/modulator_xi")
    x, y, z, sigmas, gamma = (arrays[f"{prefix}_{name}"] for name in ("x", "y", "z", "sigmas", "gamma"))
    Q = coupling(x, y.double(), sigmas.tolist(), float(gamma))
    names = {"exact": "grad_last", "head": "xi_head", "pub": "xi_pub", "row": "xi_row_nonref"}
    checked = 0
    for modulator, name in names.items():
        if f"{prefix}_{name}" in arrays:
            factor = modulate_current(z.flatten(1), memory_weights(Q, modulator), float(sigmas[2]))
            close(factor, arrays[f"{prefix}_{name}"].flatten())
            checked += 1
    assert checked >= 3


def window(n=7, dx=5, classes=3, d=6, seed=0):
    labels = torch.arange(n) % classes
    return normal(n, dx, seed=seed), torch.eye(classes, dtype=torch.float64)[labels], normal(n, d, seed=seed + 1)


SIGMAS, GAMMA = (0.5, 0.4, 0.9), 3.0


def test_exact_is_the_gradient_by_the_current_sample():
    for n in (2, 3, 8):
        x, y, z = window(n)
        z.requires_grad_()
        gradient = torch.autograd.grad(objective(x, y, z, SIGMAS, GAMMA), z)[0]
        weights = memory_weights(coupling(x, y, SIGMAS, GAMMA), "exact")
        assert_close(modulate_current(z.detach(), weights, SIGMAS[2]), gradient[-1], 1e-12)


def test_each_row_of_the_batch_gradient_is_exact_with_that_sample_last():
    x, y, z = window()
    z.requires_grad_()
    gradient = torch.autograd.grad(objective(x, y, z, SIGMAS, GAMMA), z)[0]
    for p in range(len(z)):
        order = [*(q for q in range(len(z)) if q != p), p]
        weights = memory_weights(coupling(x[order], y[order], SIGMAS, GAMMA), "exact")
        assert_close(modulate_current(z.detach()[order], weights, SIGMAS[2]), gradient[p], 1e-12)


@pytest.mark.parametrize("modulator", MODULATORS)
def test_modulators_are_their_sums_written_out(modulator):
    x, y, z = window()
    Q, n, width = coupling(x, y, SIGMAS, GAMMA), len(z), SIGMAS[2] ** 2 * z.shape[1]
    m, total = Q.mean(1), Q.mean()
    expected = torch.zeros(z.shape[1], dtype=torch.float64)
    for q in range(n - 1):
        repulsion = torch.exp(-(z[-1] - z[q]).square().sum() / (2 * width)) * (z[-1] - z[q]) / width
        weight = {
            "exact": -2 * (Q[-1, q] - m[-1] - m[q] + total),
            "row": -2 * (Q[-1, q] - m[-1]),
            "pub": (2 / n) * (Q[-1, -1] - m[-1]),
            "head": (2 / n) * (Q[q, q] - m[q] + Q[-1, -1] - m[-1]),
        }[modulator]
        expected += weight * repulsion / (n - 1) ** 2
    assert_close(modulate_current(z, memory_weights(Q, modulator), SIGMAS[2]), expected, 1e-12)


def test_with_one_remembered_sample_head_is_exact_and_pub_half_of_it():
    x, y, z = window(2)
    Q = coupling(x, y, SIGMAS, GAMMA)
    exact, head, pub = (modulate_current(z, memory_weights(Q, name), SIGMAS[2]) for name in ("exact", "head", "pub"))
    assert_close(head, exact, 1e-13)
    assert_close(2 * pub, exact, 1e-13)


@pytest.mark.parametrize("modulator", MODULATORS)
def test_networks_side_by_side_are_what_they_are_alone(modulator):
    x, y, _ = window()
    z = normal(4, 7, 6, seed=9)
    weights = memory_weights(coupling(x, y, SIGMAS, GAMMA), modulator)
    together = modulate_current(z, weights, SIGMAS[2])
    K = scaled_gaussian_gram(z, SIGMAS[2])
    for position in range(4):
        assert_close(together[position], modulate_current(z[position], weights, SIGMAS[2]), 1e-13)
        assert_close(K[position], scaled_gaussian_gram(z[position], SIGMAS[2]), 1e-13)
        alone = window_hsic(scaled_gaussian_gram(x, 0.5), K[position])
        assert_close(window_hsic(scaled_gaussian_gram(x, 0.5), K)[position], alone, 1e-13)
