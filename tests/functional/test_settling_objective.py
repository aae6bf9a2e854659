"""The objective along settling: its slope is the gradient that the dynamics follow, of a layer with free B, W and V."""

import pytest
import torch

from infohebb.functional.settling_objective import hidden_objective, output_objective

SAMPLES, BELOW, OWN, ABOVE = 5, 4, 3, 2
CONSTANTS = {"epsilon": 0.15, "gain": 0.3}


@pytest.fixture
def layer():
    """Rates, what is below and above, weights, and a symmetric B."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = draw(OWN, OWN)
    return {
        "r": draw(SAMPLES, OWN).requires_grad_(),
        "below": draw(SAMPLES, BELOW),
        "above": draw(SAMPLES, ABOVE),
        "W": draw(OWN, BELOW),
        "V": draw(OWN, ABOVE),
        "B": root + root.T,
        "y": draw(SAMPLES, OWN),
    }


def slope(value, r):
    return torch.autograd.grad(value.sum(), r)[0]


def test_the_slope_of_a_hidden_layer(layer):
    r, below, above, W, V, B, _ = layer.values()
    found = slope(hidden_objective(r, below, W, above, V, B, **CONSTANTS), r)
    for sample, x, up, is_ in zip(r.detach(), below, above, found, strict=True):
        wanted = 2 * 0.3 * B @ sample - (sample - W @ x) / 0.15 - (sample - V @ up) / 0.15
        torch.testing.assert_close(is_, wanted, rtol=1e-12, atol=1e-12)


def test_the_slope_of_the_output(layer):
    r, below, _, W, _, B, y = layer.values()
    nudged = slope(output_objective(r, below, W, B, y, nudge=-0.7, **CONSTANTS), r)
    free = slope(output_objective(r, below, W, B, nudge=-0.7, **CONSTANTS), r)
    for sample, x, wanted, told, alone in zip(r.detach(), below, y, nudged, free, strict=True):
        rest = 0.3 * B @ sample - (sample - W @ x) / 0.15
        torch.testing.assert_close(told, rest + 0.7 * (sample - wanted), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone, rest, rtol=1e-12, atol=1e-12)


def test_values_by_hand():
    r, x, up = torch.tensor([[0.5, 1.0]]), torch.tensor([[2.0]]), torch.tensor([[1.0]])
    W, V, B = torch.tensor([[0.5], [0.25]]), torch.tensor([[0.5], [0.0]]), torch.tensor([[2.0, 1.0], [1.0, 4.0]])
    # rᵀB r = 0.5 + 1 + 4 = 5.5; ‖r - W r'‖² = 0.25 + 0.25; ‖r - V r''‖² = 1; ‖r - y‖² = 0.25
    hidden = hidden_objective(r, x, W, up, V, B, epsilon=0.25, gain=0.1)
    torch.testing.assert_close(hidden, torch.tensor([0.55 - 1.0 - 2.0]))
    output = output_objective(r, x, W, B, torch.tensor([[0.0, 1.0]]), epsilon=0.25, gain=0.1, nudge=2.0)
    torch.testing.assert_close(output, torch.tensor([0.275 - 1.0 - 0.25]))
