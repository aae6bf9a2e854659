"""Explicit error transport: through a layer's own weights it is backprop; through others, autograd with those."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn

from functional.oracles import assert_close, normal
from infohebb.errors import MismatchError
from infohebb.functional.convolution import HALVING, Geometry
from infohebb.functional.nonlinearities import SELU, leaky_relu
from infohebb.functional.products import product
from infohebb.networks import MLP, Block, ConvNet, DivisiveNorm, Layered
from infohebb.rules import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    LayerwiseClassification,
    SignSymmetry,
    TransportRule,
)

IMAGES, LABELS = normal(6, 2, 8, 8, seed=3), torch.tensor([0, 1, 2, 2, 1, 0])
DIVISIVE = {"groups": 4, "power": 0.3, "delta": 0.6}
KEEPS_SIZE = {"kernel_size": 3, "padding": 1}


class Symmetric(TransportRule):
    """Backprop by explicit transport: the error comes down through the weights themselves."""

    weight_transport = True

    def feedback_weight(self, position, layer):
        return layer.weight


def residual(*, dropout=0.0, pool=None, average=None, batch_norm=False):
    """Blocks that add what they received, dense and on maps, with every stage a block can have."""
    norm = nn.BatchNorm2d(4) if batch_norm else None
    last = 64 if pool is None and average is None else 16
    blocks = [
        Block(nn.Conv2d(2, 4, **KEEPS_SIZE), SELU, map_size=(4, 4), pool=HALVING),
        Block(
            nn.Conv2d(4, 4, **KEEPS_SIZE),
            leaky_relu(0.1),
            batch_norm=norm,
            divisive_norm=DivisiveNorm(2),
            dropout=dropout,
            residual=True,
            pool=pool,
            average=average,
            map_size=(4, 4) if pool is None else (2, 2),
        ),
        Block(nn.Linear(last, last), SELU, residual=True, layer_norm=nn.LayerNorm(last, elementwise_affine=False)),
    ]
    return Layered(blocks, nn.Linear(last, 3))


CONVOLUTIONAL = {
    f"{norm}, {nonlinearity}, dropout {dropout}": lambda norm=norm, nonlinearity=nonlinearity, dropout=dropout: ConvNet(
        (2, 8, 8), 3, (8, 4), (1,), (12,), 1.0, nonlinearity, 0.1, norm, DIVISIVE, dropout, bias=norm is None
    )
    for norm, nonlinearity, dropout in itertools.product((None, "batch"), ("selu", "leaky_relu"), (0.0, 0.3))
}
NETWORKS = CONVOLUTIONAL | {
    "dense": lambda: MLP((2, 8, 8), 3, (16, 12), divisive_norm=DIVISIVE, dropout=0.2, bias=True),
    "layer norm": lambda: MLP((2, 8, 8), 3, (16, 12), norm="layer", nonlinearity="tanh"),
    "no block": lambda: MLP((2, 8, 8), 3, ()),
    "residual": residual,
    "residual, dropout": lambda: residual(dropout=0.3, batch_norm=True),
    "residual, pool": lambda: residual(pool=HALVING),
    "residual, overlapping pool": lambda: residual(pool=Geometry((3, 3), (2, 2), (1, 1)), batch_norm=True),
    "residual, average": lambda: residual(average=Geometry((2, 2), (2, 2))),
}


def learn(rule, network, targets=LABELS, **options):
    network.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    return rule.learn(network, IMAGES, targets, **options)


def gradients(network):
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def assert_same(got, expected):
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert_close(got[name], gradient, 1e-10, name, largest)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("targets", [LABELS, normal(6, 3, seed=9)], ids=["labels", "numbers"])
def test_through_the_weights_themselves_it_is_backprop(make, targets):
    torch.manual_seed(1)
    network = make().double()
    expected = learn(Backprop(), network, targets), gradients(network)
    seen = learn(Symmetric(), network, targets)
    assert_close(seen.loss, expected[0].loss, 1e-12)
    assert_same(gradients(network), expected[1])


@pytest.mark.parametrize("name", ["residual, overlapping pool", "residual, average", "residual, dropout"])
def test_backprop_of_residual_blocks_is_autograds(name):
    """Of the whole network at once, with the weights as leaves."""
    torch.manual_seed(1)
    network = NETWORKS[name]().double()
    seen = learn(Backprop(), network)
    found = gradients(network)
    torch.manual_seed(0)
    x = IMAGES
    for _, block in network.named_blocks():
        x = block.emit(block.respond(x, learning=True).activity, learning=True)
    loss = nn.functional.cross_entropy(network.readout(x.flatten(1)), LABELS)
    network.zero_grad(set_to_none=True)
    loss.backward()
    assert_close(seen.loss, loss.detach(), 1e-12)
    assert_same(found, gradients(network))


class CrossedWires(torch.autograd.Function):
    """x Wᵀ, or a convolution, whose error below goes through another matrix: how autograd would do it."""

    @staticmethod
    def forward(ctx, x, weight, feedback):
        ctx.save_for_backward(x, weight, feedback)
        return x @ weight.T if weight.dim() == 2 else torch.conv2d(x, weight, None, 1, 1)

    @staticmethod
    def backward(ctx, error):
        x, weight, feedback = ctx.saved_tensors
        with torch.enable_grad():
            x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
            drive = x.flatten(1) @ weight.T if weight.dim() == 2 else torch.conv2d(x, weight, None, 1, 1)
            (own,) = torch.autograd.grad(drive, weight, error)
            below = x @ feedback.T if weight.dim() == 2 else torch.conv2d(x, feedback, None, 1, 1)
            (sent,) = torch.autograd.grad(below, x, error)
        return sent, own, None


def by_autograd(network, feedback):
    """Gradients of the weights of a network of convolutions with pooling and dense blocks, through these matrices."""
    weights = [block.weight.detach().clone().requires_grad_() for _, block in network.named_blocks()]
    weights.append(network.readout.weight.detach().clone().requires_grad_())
    x = IMAGES
    for position, (_, block) in enumerate(network.named_blocks()):
        x = x if weights[position].dim() == 4 else x.flatten(1)
        h = nn.functional.selu(CrossedWires.apply(x, weights[position], feedback[position]))
        h = nn.functional.max_pool2d(h, 2) if block.pool else h
        x = nn.functional.group_norm(h.reshape(len(h), -1), 4, eps=0)  # divisive norm of power 1/2 and delta 0
    logits = CrossedWires.apply(x, weights[-1], feedback[-1]) + network.readout.bias
    return torch.autograd.grad(nn.functional.cross_entropy(logits, LABELS), weights)


@pytest.mark.parametrize("rule", [FeedbackAlignment(), SignSymmetry()], ids=["random", "signs"])
def test_errors_go_through_the_matrices_they_should(rule):
    torch.manual_seed(1)
    norm = {"groups": 4, "power": 0.5, "delta": 0.0}
    network = ConvNet((2, 8, 8), 3, (8,), (1,), (16, 12), divisive_norm=norm).double()
    rule.attach(network)
    layers = [*(block for _, block in network.named_blocks()), network.readout]
    feedback = [layer.weight.detach() for layer in layers]
    for position in range(1, len(layers)):
        feedback[position] = (
            rule.feedback[position] if isinstance(rule, FeedbackAlignment) else feedback[position].sign()
        )
    learn(rule, network)
    for layer, expected in zip(layers, by_autograd(network, feedback), strict=True):
        assert_close(layer.weight.grad, expected, 1e-10, scale=expected.abs().max().item())


def test_direct_feedback_sends_the_readouts_error_to_each_blocks_output():
    torch.manual_seed(1)
    network = ConvNet((2, 8, 8), 3, (4,), (1,), (12,), nonlinearity="leaky_relu").double()
    rule = DirectFeedbackAlignment()
    rule.attach(network)
    seen = learn(rule, network, record=True)
    top = seen.signals["readout"]["error"]
    for position, (name, block) in enumerate(network.named_blocks()):
        response = block.respond(IMAGES if position == 0 else response.activity)
        arrived = (top @ rule.feedback[position]).view_as(response.activity)
        slope = 1 - 0.99 * (response.hidden <= 0).double()
        assert_close(seen.signals[name]["error"], arrived * slope, 1e-13)


def test_direct_feedback_needs_to_know_how_large_maps_are():
    network = Layered([Block(nn.Conv2d(2, 4, **KEEPS_SIZE), SELU)], nn.Linear(256, 3))
    with pytest.raises(MismatchError, match=r"blocks.0 has maps of unknown size"):
        DirectFeedbackAlignment().attach(network)


@pytest.mark.parametrize("kind", [FeedbackAlignment, DirectFeedbackAlignment])
def test_feedback_stays_with_the_network_and_goes_with_it(kind):
    network, rule = MLP(8, 3, (6, 5, 4)), kind()
    with pytest.raises(MismatchError, match=r"call rule.attach\(network\) first"):
        rule.learn(network, torch.zeros(2, 8), torch.tensor([0, 1]))
    rule.attach(network)
    before = {name: buffer.clone() for name, buffer in rule.named_buffers()}
    assert len(before) == 3
    rule.attach(network)  # as a second call of train does
    assert all(torch.equal(rule.get_buffer(name), buffer) for name, buffer in before.items())
    rule.attach(network.double())
    rule.learn(network, normal(2, 8), torch.tensor([0, 1]))
    rule.attach(MLP(8, 3, (6,)))
    assert len(list(rule.buffers())) == 1


@pytest.mark.parametrize("kind", [FeedbackAlignment, DirectFeedbackAlignment, LayerwiseClassification])
@pytest.mark.parametrize("through", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])  # noqa: S301
def test_a_copied_pair_still_knows_each_other(kind, through):
    network, rule = MLP(8, 3, (6, 5)), kind()
    rule.attach(network)
    before = {name: tensor.clone() for name, tensor in rule.state_dict().items()}
    network, rule = through((network, rule))
    rule.attach(network)
    assert all(torch.equal(rule.state_dict()[name], tensor) for name, tensor in before.items())
    rule.attach(MLP(8, 3, (6, 5)))
    assert not any(torch.equal(rule.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("kind", [FeedbackAlignment, DirectFeedbackAlignment, LayerwiseClassification])
def test_a_network_whose_blocks_were_replaced_gets_feedback_that_fits(kind):
    network, rule = MLP(8, 3, (6, 5)), kind()
    rule.attach(network)
    network.blocks[0], network.blocks[1] = MLP(8, 3, (7,)).blocks[0], MLP(7, 3, (5,)).blocks[0]
    rule.attach(network)
    rule.learn(network, torch.zeros(2, 8), torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", [FeedbackAlignment, DirectFeedbackAlignment, LayerwiseClassification])
def test_a_rule_of_another_network_says_so(kind):
    rule, label = kind(), torch.tensor([0, 1])
    rule.attach(MLP(8, 3, (6, 5)))
    for network, inputs in ((MLP(8, 3, (7, 9)), torch.zeros(2, 8)), (MLP(8, 3, (6, 5)).double(), normal(2, 8))):
        with pytest.raises(MismatchError, match=r"call rule.attach\(network\) first"):
            rule.learn(network, inputs, label)


def test_layerwise_classifiers_of_other_classes_say_so():
    rule = LayerwiseClassification()
    rule.attach(MLP(8, 3, (6,)))
    with pytest.raises(MismatchError, match=r"call rule.attach\(network\) first"):
        rule.learn(MLP(8, 5, (6,)), torch.zeros(2, 8), torch.tensor([0, 4]))


def test_gradient_signs_are_asked_for_by_true_or_false():
    with pytest.raises(MismatchError, match="gradient_signs 'yes': give True or False"):
        rule = SignSymmetry()
        rule.gradient_signs = "yes"
        rule.attach(MLP(8, 3, (6,)))


def test_gradient_signs_are_taken_when_the_gradients_are_finished():
    network = MLP(8, 3, (6,)).double()
    for rule in (SignSymmetry(), SignSymmetry(gradient_signs=True)):
        network.zero_grad(set_to_none=True)
        rule.learn(network, normal(4, 8), torch.tensor([0, 1, 2, 0]))
        before = gradients(network)
        network.readout.bias.grad = None  # of one that is frozen
        rule.finish(network.parameters())
        expected = before["blocks.0.weight"]
        assert torch.equal(network.blocks[0].weight.grad, expected.sign() if rule.gradient_signs else expected)


@pytest.mark.parametrize("rule", [Symmetric(), Backprop()], ids=["transport", "backprop"])
def test_the_error_of_the_readout_is_never_rounded(rule):
    torch.manual_seed(0)
    network = MLP(64, 100, (512,), nonlinearity="identity")
    network.precision = "bf16"
    seen = rule.learn(network, normal(256, 64).float(), torch.arange(256) % 100, record=True)
    error, weight = seen.signals["readout"]["error"], network.readout.weight.detach()
    assert not torch.equal(product(error, weight, "bf16"), error @ weight)  # it would show
    assert torch.equal(seen.signals["blocks.0"]["error"], error @ weight)
    assert torch.equal(network.blocks[0].weight.grad, rule.update(seen.signals["blocks.0"], "bf16")["weight"])
