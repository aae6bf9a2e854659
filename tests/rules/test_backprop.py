import pytest
import torch
from torch import nn

from functional import oracles
from functional.oracles import assert_close, normal
from infohebb.functional.dropout import alpha_dropout, dropout
from infohebb.rules import Backprop
from networks.plain_torch import FUNCTIONS, activity, block_parameters, make_network, output
from rules.walk import LABELS, X, assert_gradients, assert_only_blocks_round_their_updates, dropout_masks, learn_in_bf16

DIVISIVE = {"groups": 4, "power": 0.3, "delta": 0.6}
NUMBERS = normal(7, 3, seed=9)
LOSSES = {
    "cross_entropy": nn.functional.cross_entropy,
    "mean_squared_error": lambda logits, labels: nn.functional.mse_loss(logits, oracles.one_hot(labels, 3)),
}


def check(loss=None, targets=LABELS, criterion=nn.functional.cross_entropy, masks=None, **options):
    """One call of `learn` on two blocks against `backward` of a plain torch network."""
    network = make_network(**options)
    parameters = [block_parameters(network, position) for position in range(2)]
    readout = {name: p.detach().clone().requires_grad_() for name, p in network.readout.named_parameters()}
    x = X
    for position in range(2):
        x = output(activity(x, parameters[position], **options), **options)
        x = x if masks is None else masks[position](x)
    logits = x @ readout["weight"].T + readout["bias"]
    value = criterion(logits, targets)
    value.backward()
    torch.manual_seed(0)
    diagnostics = Backprop(loss).learn(network, X, targets)
    assert_close(diagnostics.loss, value.detach(), 1e-12)
    assert diagnostics.correct is None or torch.equal(diagnostics.correct, logits.argmax(1) == targets)
    for layer, expected in zip([*network.blocks, network.readout], [*parameters, readout], strict=True):
        assert_gradients(layer, {name: parameter.grad for name, parameter in expected.items()}, 1e-10)


every_divisive = pytest.mark.parametrize("divisive_norm", [None, DIVISIVE], ids=["plain", "divisive"])


@every_divisive
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_backward(loss, norm, divisive_norm, bias):
    check(loss, criterion=LOSSES[loss], norm=norm, divisive_norm=divisive_norm, bias=bias)


@every_divisive
@pytest.mark.parametrize("nonlinearity", FUNCTIONS)
def test_gradients_of_every_nonlinearity(nonlinearity, divisive_norm):
    check(nonlinearity=nonlinearity, divisive_norm=divisive_norm, norm="batch")


@pytest.mark.parametrize("loss", [None, "mean_squared_error"])
def test_continuous_targets_have_the_squared_loss(loss):
    check(loss, NUMBERS, nn.functional.mse_loss)


@every_divisive
@pytest.mark.parametrize(("nonlinearity", "drop"), [("leaky_relu", dropout), ("selu", alpha_dropout)])
def test_errors_pass_where_dropout_lets_them(nonlinearity, drop, divisive_norm):
    masks = dropout_masks(drop, (8, 12), 0.3)
    check(nonlinearity=nonlinearity, dropout=0.3, divisive_norm=divisive_norm, masks=masks)


def test_everything_learns_at_the_readouts_rate():
    network = make_network(norm="batch", bias=True)
    groups = Backprop().groups(network)
    assert groups.keys() == {"readout"}
    assert {id(p) for p in groups["readout"]} == {id(p) for p in network.parameters()}


def test_the_signals_recorded_make_the_update_and_carry_no_graph():
    network, rule = make_network(norm="batch", divisive_norm=DIVISIVE), Backprop()
    assert rule.learn(network, X, LABELS).signals == {}
    recorded = rule.learn(network, X, LABELS, record=True).signals
    assert recorded.keys() == {"blocks.0", "blocks.1", "readout"}
    for layer, signals in recorded.items():
        assert not any(signal.requires_grad for signal in signals.values())
        update = rule.update(signals)
        for name, parameter in network.get_submodule(layer).named_parameters():
            assert torch.equal(update[name], parameter.grad)


def test_learning_inside_no_grad_is_the_same():
    network, other = make_network(), make_network()
    Backprop().learn(network, X, LABELS)
    with torch.no_grad():
        Backprop().learn(other, X, LABELS)
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_bf16_reaches_the_updates_of_the_blocks_and_not_the_readouts():
    assert_only_blocks_round_their_updates(Backprop())
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_bf16_reaches_the_errors_on_their_way_down():
    network, signals = learn_in_bf16(Backprop())
    in_full = signals["blocks.1"]["error"] @ network.blocks[1].weight.detach()
    rounded = signals["blocks.0"]["error"]
    assert (rounded - in_full).abs().max() > 1e-4 * in_full.abs().max()
    assert_close(rounded, in_full, 1e-2)
