import pytest
import torch
from torch import nn

from functional.oracles import assert_close, derivative, normal
from infohebb.rules.layered import (
    LayeredRule,
    LocalStep,
    assign_gradients,
    block_signals,
    readout_signals,
    synaptic_gradients,
)
from networks.plain_torch import activity, block_parameters, make_network
from rules.walk import LABELS, X, assert_gradients

PRE, ERROR = normal(6, 5), normal(6, 8, seed=1)


class HandOver(LayeredRule):
    """Each block is handed its own activity as error at the nonlinearity's input, weighted by a context."""

    def context(self, network, inputs, targets):
        return float(inputs.sum() + targets.sum())

    def local_step(self, block, response, context):
        error = context * response.activity
        signals = {"error": error, **block_signals(block, response)}
        return LocalStep(signals, {"objective": error.sum()}, 2 * response.activity if block.divisive_norm else None)


def test_the_walk_hands_each_block_its_response_and_the_context():
    network = make_network(nonlinearity="identity", norm="batch", divisive_norm={"groups": 4})
    context, x = float(X.sum() + LABELS.sum()), X
    diagnostics = HandOver().learn(network, X, LABELS, record=True)
    for position, (name, block) in enumerate(network.named_blocks()):
        parameters = block_parameters(network, position)
        z = activity(x, parameters, nonlinearity="identity", norm="batch")
        gradients = torch.autograd.grad((context * z.detach() * z).sum(), list(parameters.values()))
        assert_gradients(block, dict(zip(parameters, gradients, strict=True)), 1e-11)
        assert_close(diagnostics.objectives[name]["objective"], context * z.detach().sum(), 1e-10)
        assert_close(diagnostics.signals[name]["pre"], x, 1e-13)
        x = 2 * z.detach()  # the rule's own word for the divisively normalised activity
    assert_close(diagnostics.signals["readout"]["pre"], x, 1e-13)


def test_blocks_learn_at_the_local_rate_and_the_readout_at_its_own():
    network = make_network(norm="batch", bias=True)
    groups = HandOver().groups(network)
    assert {id(p) for p in groups["local"]} == {id(p) for p in network.blocks.parameters()}
    assert {id(p) for p in groups["readout"]} == {id(p) for p in network.readout.parameters()}


def test_synaptic_gradients_are_pre_times_error_and_the_sum_of_errors():
    gradients = synaptic_gradients({"pre": PRE, "bias_pre": torch.tensor(1.0)}, ERROR)
    expected = torch.zeros(8, 5, dtype=torch.float64)
    for sample in range(6):
        expected += torch.outer(ERROR[sample], PRE[sample])
    assert gradients.keys() == {"weight", "bias"}
    assert_close(gradients["weight"], expected, 1e-13)
    assert_close(gradients["bias"], sum(ERROR), 1e-13)


def test_a_layer_without_bias_has_no_gradient_for_one():
    assert synaptic_gradients({"pre": PRE}, ERROR).keys() == {"weight"}


def test_synaptic_gradients_below_batch_norm_are_those_of_autograd():
    weight, scale, shift = normal(8, 5, seed=2), normal(8, seed=3), normal(8, seed=4)
    bias = normal(8, seed=5)

    def objective(weight, bias, scale, shift):
        return (ERROR * nn.functional.batch_norm(PRE @ weight.T + bias, None, None, scale, shift, training=True)).sum()

    a = PRE @ weight.T + bias
    factor = 1 / (a.var(0, correction=0) + 1e-5).sqrt()
    signals = {
        "pre": PRE,
        "bias_pre": torch.tensor(1.0),
        "batch_normalised": (a - a.mean(0)) * factor,
        "batch_scale": factor * scale,
    }
    got = synaptic_gradients(signals, ERROR)
    names = ("weight", "bias", "batch_norm.weight", "batch_norm.bias")
    for name, expected in zip(names, derivative(objective, weight, bias, scale, shift), strict=True):
        assert_close(got[name], expected, 1e-11, name, scale=10.0)


def test_gradients_are_assigned_by_name_and_cleared_where_there_is_none():
    layer = torch.nn.Linear(5, 8).double()
    layer.bias.grad = torch.ones(8, dtype=torch.float64)
    weight = normal(8, 5)
    assign_gradients(layer, {"weight": weight, "elsewhere": weight})
    assert torch.equal(layer.weight.grad, weight)
    assert layer.bias.grad is None


def squared(logits, labels):
    return nn.functional.mse_loss(logits, nn.functional.one_hot(labels, 3).double())


@pytest.mark.parametrize(
    ("targets", "loss", "criterion"),
    [
        (LABELS, None, nn.functional.cross_entropy),
        (LABELS, "cross_entropy", nn.functional.cross_entropy),
        (LABELS, "mean_squared_error", squared),
        (X[:, :3], None, nn.functional.mse_loss),
        (X[:, :3], "mean_squared_error", nn.functional.mse_loss),
    ],
)
def test_the_readouts_loss_follows_its_name_or_the_type_of_the_targets(targets, loss, criterion):
    logits, x = normal(7, 3, seed=7), normal(7, 4)
    value, signals = readout_signals(x, logits, targets, loss)
    assert_close(value, criterion(logits, targets), 1e-13)
    assert_close(signals["error"], derivative(lambda logits: criterion(logits, targets), logits), 1e-13)
    assert signals["pre"] is x
    assert signals["bias_pre"] == 1
