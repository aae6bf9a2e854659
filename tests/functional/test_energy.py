"""The energy's closed forms against autograd of Φ, at any depth."""

from itertools import pairwise

import pytest
import torch

from functional.oracles import assert_close, derivative, normal, symmetric
from infohebb.functional import energy, plasticity
from infohebb.functional.energy import Synapses

DEPTHS = [[6, 4], [6, 5, 4], [7, 6, 5, 4], [7, 6, 5, 4, 3]]
M, STEP, NUDGE = 3, 0.5, -0.7


def network(sizes, lateral=True):
    """Input, states inside the box, what is wanted, and synapses."""
    weights = [normal(above, below, seed=k) / below**0.5 for k, (below, above) in enumerate(pairwise(sizes))]
    biases = [normal(above, seed=10 + k) / 10 for k, above in enumerate(sizes[1:])]
    laterals = [symmetric(width, seed=20 + k) / width for k, width in enumerate(sizes[1:-1])] if lateral else []
    states = [normal(M, size, seed=30 + k).sigmoid() for k, size in enumerate(sizes[1:])]
    return normal(M, sizes[0], seed=40), states, normal(M, sizes[-1], seed=41), Synapses(weights, biases, laterals)


def plain_energy(x, states, wanted, nudge, synapses):
    """Φ sample by sample and number by number, from its definition."""
    total = 0
    for i in range(M):
        layers = [x[i], *(s[i] for s in states)]
        for k, (below, above) in enumerate(pairwise(layers)):
            total = total + (above @ above) / 2 - above @ (synapses.weights[k] @ below + synapses.biases[k])
        for k, lateral in enumerate(synapses.laterals):
            total = total + layers[k + 1] @ lateral @ layers[k + 1] / 2
        total = total + nudge * ((layers[-1] - wanted[i]) ** 2).sum()
    return total


def drive(x, synapses):
    return energy.drive_from_input(x, synapses.weights[0], synapses.biases[0])


@pytest.mark.parametrize("lateral", [False, True])
@pytest.mark.parametrize("sizes", DEPTHS)
def test_energy_is_its_definition(sizes, lateral):
    x, states, wanted, synapses = network(sizes, lateral)
    got = energy.energy(x, states, synapses, wanted, NUDGE).sum()
    assert_close(got, plain_energy(x, states, wanted, NUDGE, synapses), 1e-12)
    assert_close(energy.energy(x, states, synapses).sum(), plain_energy(x, states, wanted, 0.0, synapses), 1e-12)


@pytest.mark.parametrize("nudge", [0.0, NUDGE])
@pytest.mark.parametrize("lateral", [False, True])
@pytest.mark.parametrize("sizes", DEPTHS)
def test_a_step_goes_down_the_energy_in_all_layers_at_once(sizes, lateral, nudge):
    x, states, wanted, synapses = network(sizes, lateral)
    before = [s.clone() for s in states]
    expected = states
    for _ in range(3):
        slopes = derivative(lambda *s: plain_energy(x, s, wanted, nudge, synapses), *expected)
        slopes = [slopes] if len(states) == 1 else slopes
        expected = [(s - STEP * slope).clip(0, 1) for s, slope in zip(expected, slopes, strict=True)]
    got = energy.settle(drive(x, synapses), states, synapses, STEP, 3, wanted, nudge)
    for k, s in enumerate(expected):
        assert_close(got[k], s, 1e-12)
        assert torch.equal(states[k], before[k])


@pytest.mark.parametrize("sizes", DEPTHS)
def test_what_synapses_learn_is_the_energys_change_per_nudge(sizes):
    x, free, wanted, synapses = network(sizes)
    nudged = [(s + normal(*s.shape, seed=50) / 5).clip(0, 1) for s in free]

    def difference(*parameters):
        W, b = parameters[: len(free)], parameters[len(free) :]
        at = [plain_energy(x, s, wanted, 0.0, Synapses(W, b)) for s in (nudged, free)]
        return (at[0] - at[1]) / (NUDGE * M)

    expected = derivative(difference, *synapses.weights, *synapses.biases)
    for k, (pre, error) in enumerate(energy.contrast(x, free, nudged, NUDGE)):
        assert_close(plasticity.hebbian(pre, error), expected[k], 1e-12)
        assert_close(error.sum(0), expected[len(free) + k], 1e-12)


def test_lateral_synapses_learn_the_nudged_rates_correlation():
    s = normal(M, 5).sigmoid()
    pre, error = energy.similarity(s, NUDGE)
    expected = -sum(torch.outer(row, row) for row in s) / (2 * NUDGE * M)
    assert_close(plasticity.hebbian(pre, error), expected, 1e-12)


@pytest.mark.parametrize("lateral", [False, True])
@pytest.mark.parametrize("sizes", DEPTHS)
def test_the_energy_falls_along_settling(sizes, lateral):
    x, states, wanted, synapses = network(sizes, lateral)
    received, course = drive(x, synapses), []
    for _ in range(40):
        course.append(energy.energy(x, states, synapses, wanted, 0.5))
        states = energy.settle(received, states, synapses, 0.1, 1, wanted, 0.5)
    assert torch.stack(course).diff(dim=0).max() <= 1e-12
    assert (course[0] - course[-1]).min() > 0.01


def test_bf16_rounds_products_between_hidden_layers_only():
    x, states, wanted, synapses = network([70, 300, 300, 4])
    x, wanted = x.float(), wanted.float()
    states, synapses = [s.float() for s in states], Synapses(*([t.float() for t in part] for part in synapses))
    got, expected = (
        energy.settle(drive(x, synapses), states, synapses, STEP, 5, wanted, NUDGE, precision)
        for precision in ("bf16", "fp32")
    )
    assert (got[1] - expected[1]).abs().max() > 1e-6
    assert_close(got[1], expected[1], 5e-2)
    alone = Synapses(synapses.weights[2:], synapses.biases[2:])
    got, expected = (
        energy.settle(states[2], states[2:], alone, STEP, 5, wanted, NUDGE, precision) for precision in ("bf16", "fp32")
    )
    assert torch.equal(got[0], expected[0])
