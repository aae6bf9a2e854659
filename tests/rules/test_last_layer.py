import pytest
import torch

from infohebb.rules import LastLayer
from networks.plain_torch import activity, block_parameters, make_network, output
from rules.walk import LABELS, X, assert_readout_learned

DIVISIVE = {"groups": 4, "power": 0.3, "delta": 0.6}


@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"norm": "layer", "divisive_norm": DIVISIVE}], ids=str)
@pytest.mark.parametrize("targets", [LABELS, X[:, :3]], ids=["labels", "numbers"])
def test_only_the_readout_learns_on_what_the_blocks_put_out(options, targets):
    network, x = make_network(**options), X
    for position in range(2):
        x = output(activity(x, block_parameters(network, position), **options), **options).detach()
    diagnostics = LastLayer().learn(network, X, targets)
    assert_readout_learned(network, diagnostics, x, targets)
    assert all(parameter.grad is None for parameter in network.blocks.parameters())
    assert diagnostics.objectives == {}


def test_only_the_readout_is_handed_to_an_optimizer():
    network = make_network(bias=True)
    groups = LastLayer().groups(network)
    assert groups.keys() == {"readout"}
    assert [id(p) for p in groups["readout"]] == [id(network.readout.weight), id(network.readout.bias)]


def test_only_the_readouts_signals_are_recorded():
    network = make_network()
    signals = LastLayer().learn(network, X, LABELS, record=True).signals
    assert list(signals) == ["readout"]
    assert torch.equal(LastLayer().update(signals["readout"])["weight"], network.readout.weight.grad)
