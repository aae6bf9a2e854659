"""Stacked networks compute what each of them does, and come apart again as they were."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from functional.oracles import assert_close, normal
from infohebb.errors import MismatchError
from infohebb.networks.plain import MLP, ConvNet, LeakyMLP, stack_networks, unstack

X = normal(6, 3)
MAKES = {
    "mlp": partial(MLP, (3, 1), 2, (4, 5), norm="layer", bias=True, nonlinearity="gelu"),
    "no bias": partial(MLP, 3, 2, (4,)),
    "no layers": partial(MLP, 3, 2, ()),
    "leaky": partial(LeakyMLP, 3, 2, (4, 5), slots=6, steps=4),
}
on_all = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def singles(make, count=3):
    """Networks of different weights; the potentials of leaky ones are not at rest."""
    networks = [make().double() for _ in range(count)]
    for place, network in enumerate(networks):
        network.train()(normal(6, 3, seed=place))
    return networks


@on_all
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_stacked_networks_answer_as_each_of_them(make, mode):
    networks = [network.train(mode) for network in singles(make)]
    stacked = stack_networks(networks)
    for _ in range(2):
        answers = stacked(X)
        assert answers.shape == (6, 3, 2)
        for place, network in enumerate(networks):
            assert_close(answers[:, place], network(X), 1e-13)


@on_all
def test_they_come_apart_as_they_were(make):
    networks = singles(make)
    stacked = stack_networks(networks)
    assert (stacked.stacked, networks[0].stacked) == (3, None)
    for place, network in enumerate(networks):
        alone = unstack(stacked, place)
        assert alone.stacked is None
        assert alone.state_dict().keys() == network.state_dict().keys()
        for name, tensor in network.state_dict().items():
            assert torch.equal(alone.state_dict()[name], tensor)
        assert torch.equal(alone(X), copy.deepcopy(network)(X))


def test_what_is_frozen_stays_so():
    networks = singles(MAKES["mlp"])
    for network in networks:
        network.layers[0].activity.linear.weight.requires_grad_(False)
    stacked = stack_networks(networks)
    for network in (stacked, unstack(stacked, 1)):
        frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
        assert frozen == ["layers.0.activity.linear.weight"]


def test_gradients_are_those_of_each_alone():
    networks = singles(MAKES["mlp"])
    stacked = stack_networks(networks)
    (stacked(X).square().sum()).backward()
    for place, network in enumerate(networks):
        network(X).square().sum().backward()
        for one, other in zip(stacked.parameters(), network.parameters(), strict=True):
            assert_close(one.grad[place], other.grad, 1e-12)


class Thresholds(nn.Module):
    """An activation with weights."""

    def __init__(self):
        super().__init__()
        self.thresholds = nn.Parameter(torch.zeros(4))

    def forward(self, a):
        return torch.relu(a - self.thresholds)


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (list, "no networks to stack"),
        (lambda: [stack_networks([MLP(3, 2, (4,))])], "a MLP cannot be stacked; give MLPs or LeakyMLPs, single ones"),
        (lambda: [MLP(3, 2, (4,)), MLP(3, 2, (5,))], "differs.* in network 1; stacked networks have the same layers"),
        (lambda: [MLP(3, 2, (4,)), MLP(3, 2, (4,), nonlinearity="tanh")], "activation differs"),
        (lambda: [MLP(3, 2, (4,)), MLP(3, 2, (4,)).double()], "float32.*and.*float64"),
        (lambda: [MLP(3, 2, (4,)), LeakyMLP(3, 2, (4,))], "the class of the network differs"),
        (lambda: [MLP(3, 2, (4,), norm="batch")], "norm is a BatchNorm1d, which cannot be stacked"),
        (lambda: [MLP(3, 2, (4,), dropout=0.1)], "dropout is a Dropout, which cannot be stacked"),
        (lambda: [MLP(3, 2, (4,), divisive_norm={"groups": 2})], "divisive_norm is a DivisiveNorm, which cannot"),
        (lambda: [ConvNet((1, 4, 4), 2, (4,), (), ())], "conv is a Conv2d, which cannot be stacked"),
        (lambda: [MLP(3, 2, (4,), nonlinearity=Thresholds)], "activation is a Thresholds, which cannot be stacked"),
        (lambda: [MLP(3, 2, (4,), nonlinearity=partial(nn.Softmax, 1))], "a Softmax, which mixes networks"),
    ],
)
def test_what_cannot_be_stacked_is_named(networks, message):
    with pytest.raises(MismatchError, match=message) as caught:
        stack_networks(networks())
    assert "\n" not in str(caught.value)


def test_what_cannot_be_unstacked_is_named():
    with pytest.raises(MismatchError, match="this MLP is a single network"):
        unstack(MLP(3, 2, (4,)), 0)
    with pytest.raises(MismatchError, match="there is no network 2 among 2; give 0 to 1"):
        unstack(stack_networks([MLP(3, 2, (4,)) for _ in range(2)]), 2)
