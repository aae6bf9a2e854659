"""The paper's convolutional network, its errors, and that it computes what plain torch modules compute."""

import pytest
import torch
from torch import nn

from functional.oracles import assert_close, normal
from infohebb.errors import GroupingError, MismatchError
from infohebb.functional.convolution import HALVING, channels_lie_together, route
from infohebb.functional.nonlinearities import IDENTITY
from infohebb.networks import Block, ConvNet
from infohebb.rules import FeedbackAlignment, KernelizedBottleneck, LayerwiseClassification


def test_the_papers_network_has_the_papers_parameters():
    with torch.device("meta"):
        network, wide = ConvNet(), ConvNet(factor=2.0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_893_834
    sizes = [(32, 32), (16, 16), (16, 16), (8, 8), (4, 4), (2, 2), None]
    assert [block.map_size for _, block in network.named_blocks()] == sizes
    assert [len(block.weight) for _, block in wide.named_blocks()] == [256, 512, 512, 1024, 1024, 1024, 1024]
    assert wide.blocks[-1].weight.shape == (1024, 4096)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_it_predicts_what_plain_torch_modules_predict(norm):
    network = ConvNet((2, 6, 6), 3, (4, 6), (2,), (5,), norm=norm, nonlinearity="leaky_relu", bias=True).double()
    first, second, last = network.blocks
    layers = []
    for block, plain in ((first, nn.Conv2d(2, 4, 3, padding=1)), (second, nn.Conv2d(4, 6, 3, padding=1))):
        layers += [plain, block.batch_norm or nn.Identity(), nn.LeakyReLU(0.01)]
        plain.weight, plain.bias = block.weight, block.bias
    dense = nn.Linear(6 * 3 * 3, 5)
    dense.weight, dense.bias = last.weight, last.bias
    layers += [nn.MaxPool2d(2), nn.Flatten(), dense, last.batch_norm or nn.Identity(), nn.LeakyReLU(0.01)]
    plain, x = nn.Sequential(*layers, network.readout).eval(), normal(4, 2, 6, 6)
    assert_close(network(x), plain(x), 1e-13)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"inputs": (3, 4, 4)}, MismatchError, r"block 5 cannot pool a map of 1 × 1: nothing is left"),
        ({"inputs": (3, 32)}, MismatchError, r"takes \(channels, rows, columns\)"),
        ({"pooled": (0,)}, MismatchError, r"count the blocks that pool from 1 to 6"),
        ({"factor": 0.001}, MismatchError, r"no layer may be empty"),
        ({"divisive_norm": {"groups": 7}}, GroupingError, r"7 groups do not cut a layer of 131072 neurons"),
    ],
)
def test_what_cannot_be_is_named(settings, error, message):
    with torch.device("meta"), pytest.raises(error, match=message):
        ConvNet(**settings)


@pytest.mark.parametrize(
    ("synapses", "settings", "message"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), {}, "neither grouped nor dilated"),
        (nn.Conv2d(4, 4, 3, dilation=2), {}, "neither grouped nor dilated"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), {}, "padded with zeros"),
        (nn.Conv2d(4, 4, (3, 2), padding="same"), {}, "padding 'same' of a kernel 3 × 2"),
        (nn.Linear(4, 4), {"pool": HALVING}, "no map to pool"),
        (nn.Conv2d(4, 4, 3), {"layer_norm": nn.LayerNorm(4, elementwise_affine=False), "pool": HALVING}, "no maxima"),
    ],
)
def test_blocks_refuse_what_they_cannot_learn(synapses, settings, message):
    with pytest.raises(MismatchError, match=message):
        Block(synapses, IDENTITY, **settings)


def test_samples_that_are_no_map_of_its_channels_are_named():
    network = ConvNet((2, 6, 6), 3, (4,), (), ())
    for x in (torch.zeros(3, 72), torch.zeros(3, 1, 6, 6)):
        with pytest.raises(MismatchError, match="do not fit a convolution of 2 channels"):
            network(x)


@pytest.mark.parametrize("nonlinearity", ["leaky_relu", "relu", "selu", "tanh", "identity"])
def test_a_maximum_taken_before_the_nonlinearity_is_the_one_after_it(nonlinearity):
    network = ConvNet((2, 6, 6), 3, (4,), (1,), (), nonlinearity=nonlinearity, norm="batch").double()
    block, x = network.blocks[0], normal(5, 2, 6, 6)
    first = block.respond(x, learning=True)
    block.nonlinearity = block.nonlinearity._replace(increasing=False)
    last = block.respond(x, learning=True)
    assert_close(first.activity, last.activity, 1e-14)
    gradients = [block.nonlinearity.gate(torch.ones_like(r.hidden), r.hidden) for r in (first, last)]
    routed = [route(slope, r.winners, (6, 6)) for slope, r in zip(gradients, (first, last), strict=True)]
    assert_close(*routed, 1e-14)


@pytest.mark.parametrize("rule", [KernelizedBottleneck(), FeedbackAlignment(), LayerwiseClassification(projection=32)])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_maps_that_lie_in_memory_channels_last_learn_the_same(rule, norm):
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        make = ConvNet((2, 8, 8), 3, (8, 4), (1,), (12,), norm=norm, divisive_norm={"groups": 4}, dropout=0.2)
        network = make.double().to(memory_format=layout)
        rule.attach(network)
        rule.to(dtype=torch.float64).to(memory_format=layout)
        torch.manual_seed(1)
        if not found:
            kept = rule.state_dict()
        rule.load_state_dict(kept)
        rule.learn(network, normal(6, 2, 8, 8), torch.tensor([0, 1, 2, 2, 1, 0]))
        gradient = network.blocks[1].weight.grad
        assert channels_lie_together(gradient) == (layout == torch.channels_last)
        found.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, 1e-10)
