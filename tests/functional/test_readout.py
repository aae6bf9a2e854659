import pytest
import torch

from functional.oracles import assert_close, derivative, normal, one_hot
from infohebb.functional import readout

LABELS = torch.tensor([0, 3, 1, 1, 2])


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_cross_entropy_and_its_error_are_torchs(scale):
    logits = scale * normal(5, 4)
    loss, error = readout.cross_entropy(logits, LABELS)
    assert_close(loss, torch.nn.functional.cross_entropy(logits, LABELS), 1e-13)
    assert_close(error, derivative(lambda z: torch.nn.functional.cross_entropy(z, LABELS), logits), 1e-13)


def test_cross_entropy_by_hand():
    logits = normal(2, 3)
    probabilities = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = -(probabilities[0, 2].log() + probabilities[1, 0].log()) / 2
    assert_close(readout.cross_entropy(logits, torch.tensor([2, 0])).loss, expected, 1e-13)


@pytest.mark.parametrize("targets", [LABELS, normal(5, 4, seed=1)], ids=["labels", "numbers"])
def test_mean_squared_error_and_its_error_are_torchs(targets):
    logits = normal(5, 4)
    numbers = targets if targets.is_floating_point() else one_hot(targets, 4)
    loss, error = readout.mean_squared_error(logits, targets)
    assert_close(loss, torch.nn.functional.mse_loss(logits, numbers), 1e-13)
    assert_close(error, derivative(lambda z: torch.nn.functional.mse_loss(z, numbers), logits), 1e-13)
