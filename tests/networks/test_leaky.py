"""Leaky networks and networks side by side, as far as they know nothing of learning."""

import pytest
import torch

from functional.oracles import normal
from infohebb.errors import MismatchError
from infohebb.networks import MLP, LeakyMLP, alone, side_by_side

X = normal(6, 3)


def test_prediction_comes_to_what_drives_it_and_changes_nothing():
    """Held long enough, potentials are at their drive: the network is then one without leak."""
    network = LeakyMLP(3, 2, (8, 4), slots=5, steps=200).double()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x = X
    for _, block in network.named_blocks():
        x = torch.layer_norm(
            torch.relu(x @ block.weight.T + block.bias), x.new_zeros(len(block.weight)).shape, eps=1e-6
        )
    torch.testing.assert_close(network(X), network.weigh(x), rtol=1e-9, atol=1e-12)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_weights_start_as_lecuns():
    network = LeakyMLP(400, 2, (500, 4))
    weight = network.get_parameter("blocks.0.weight").detach()
    assert abs(float(weight.std()) * 20 - 1) < 0.02
    assert float(weight.abs().max()) <= 2 / 20 / 0.87962566
    assert not network.get_parameter("blocks.0.bias").any()


@pytest.mark.parametrize("make", [lambda: MLP(3, 2, (4,), norm="layer", bias=True), lambda: LeakyMLP(3, 2, (4,))])
def test_networks_side_by_side_answer_as_each_of_them(make):
    singles = [make().double() for _ in range(3)]
    together = side_by_side(singles)
    assert (together.networks, singles[0].networks, together.outputs) == (3, None, 2)
    for place, answer in enumerate(together(X)):
        torch.testing.assert_close(answer, singles[place](X), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone(together, place)(X), answer, rtol=1e-12, atol=1e-12)


def test_what_does_not_stand_side_by_side_is_named():
    for networks, message in (
        ([], "no networks"),
        ([MLP(3, 2, (4,)), MLP(3, 2, (5,))], "same layers"),
        ([MLP(3, 2, (4,), norm="batch")], "one by one"),
    ):
        with pytest.raises(MismatchError, match=message):
            side_by_side(networks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dt": 6e-3}, "overshoots"),
        ({"dt": 0.0}, "dt 0.0: give seconds"),
        ({"tau": float("nan")}, "tau nan"),
        ({"slots": 0}, "0 slots"),
        ({"widths": (4, 0)}, "layers"),
    ],
)
def test_what_cannot_leak_is_named(settings, message):
    with pytest.raises(MismatchError, match=message):
        LeakyMLP(**settings)
