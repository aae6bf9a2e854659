import math

import pytest
import torch

from functional.oracles import normal
from infohebb.errors import GroupingError, MismatchError, UnknownNameError
from infohebb.functional.nonlinearities import TANH
from infohebb.networks import MLP, DivisiveNorm
from networks.plain_torch import FUNCTIONS


def test_shapes_follow_the_widths():
    shapes = {name: tuple(p.shape) for name, p in MLP((2, 3, 4), 5, (6, 7), bias=True).named_parameters()}
    assert shapes == {
        "blocks.0.weight": (6, 24),
        "blocks.0.bias": (6,),
        "blocks.1.weight": (7, 6),
        "blocks.1.bias": (7,),
        "readout.weight": (5, 7),
        "readout.bias": (5,),
    }


def test_hidden_layers_have_no_bias_unless_told_and_the_readout_always_has():
    names = [name for name, _ in MLP(4, 3, (6,)).named_parameters()]
    assert names == ["blocks.0.weight", "readout.weight", "readout.bias"]


def test_without_hidden_layers_the_readout_reads_the_input():
    network = MLP(4, 3, ())
    x = normal(5, 4).float()
    assert torch.equal(network(x), network.readout(x))


def test_weights_start_uniform_up_to_one_over_the_root_of_the_inputs():
    torch.manual_seed(0)
    network = MLP(100, 10, (400, 400), norm="batch")
    for name, fan_in in {"blocks.0.weight": 100, "blocks.1.weight": 400, "readout.weight": 400}.items():
        weight = network.get_parameter(name).detach() * fan_in**0.5
        assert weight.abs().max() <= 1
        assert weight.abs().max() > 0.99
        deciles = torch.histc(weight, 10, -1, 1) / weight.numel()
        assert (deciles - 0.1).abs().max() < 0.02
    assert torch.equal(network.blocks[0].batch_norm.weight, torch.ones(400))
    assert not network.blocks[0].batch_norm.bias.any()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nonlinearities_by_name(name):
    network, a = MLP(4, 3, (6,), nonlinearity=name), normal(20)
    expected = FUNCTIONS[name](a)
    torch.testing.assert_close(network.blocks[0].nonlinearity.apply_(a), expected, rtol=1e-13, atol=0)


def test_slope_is_leaky_relus_and_a_hundredth_unless_told():
    steep, default = (network.blocks[1].nonlinearity for network in (MLP(slope=0.2), MLP()))
    assert steep.apply_(torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([-0.2, 2.0])
    assert default.apply_(torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([-0.01, 2.0])
    assert MLP(nonlinearity=TANH, slope=0.2).blocks[0].nonlinearity is TANH


@pytest.mark.parametrize("norm", ["batch", "layer", None])
def test_each_block_has_the_norm_asked_for(norm):
    for block in MLP(4, 3, (6, 8), norm=norm).blocks:
        assert (block.batch_norm is not None) == (norm == "batch")
        assert (block.layer_norm is not None) == (norm == "layer")
        assert not list(block.layer_norm.parameters() if block.layer_norm else [])


@pytest.mark.parametrize("given", [{"groups": 3, "power": 0.4, "delta": 0.5}, DivisiveNorm(3, 0.4, 0.5)])
def test_each_block_has_a_divisive_norm_of_its_own(given):
    first, second = (block.divisive_norm for block in MLP(4, 3, (6, 12), divisive_norm=given).blocks)
    assert first is not second
    for norm in (first, second):
        assert (norm.groups, norm.power, norm.delta) == (3, 0.4, 0.5)


def test_dropout_reaches_every_block():
    assert [block.dropout for block in MLP(4, 3, (6, 6, 6), dropout=0.25).blocks] == [0.25] * 3


def test_an_unknown_nonlinearity_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="unknown nonlinearity 'leaky_rely'; did you mean 'leaky_relu'"):
        MLP(nonlinearity="leaky_rely")
    with pytest.raises(UnknownNameError, match="known: identity, leaky_relu, relu, selu, tanh"):
        MLP(nonlinearity="zzz")


def test_groups_that_do_not_divide_a_width_are_refused_with_those_that_do():
    with pytest.raises(GroupingError, match=r"blocks.1: 5 groups .* 12 neurons .* possible: 2, 3, 4, 6$"):
        MLP(4, 3, (10, 12), divisive_norm={"groups": 5})
    with pytest.raises(GroupingError, match="1 group"):
        MLP(4, 3, (10, 12), divisive_norm={"groups": 1})


@pytest.mark.parametrize("sizes", [(0, 3, (6,)), (4, 0, (6,)), (4, 3, (6, 0)), ((2, 0), 3, (6,)), (4, 3, (-1,))])
def test_an_empty_layer_is_refused(sizes):
    with pytest.raises(MismatchError, match="no layer may be empty"):
        MLP(*sizes)


@pytest.mark.parametrize("slope", [0.0, -1.0, math.nan, math.inf])
def test_a_slope_that_hides_the_sign_is_refused(slope):
    with pytest.raises(MismatchError, match=f"slope {slope} of leaky ReLU: give a number above 0, or take relu for 0"):
        MLP(slope=slope)
    assert MLP(nonlinearity="tanh", slope=slope).blocks[0].nonlinearity is TANH


@pytest.mark.parametrize("rate", [1.0, -0.1, 2.0])
def test_a_dropout_that_is_no_probability_below_one_is_refused(rate):
    with pytest.raises(MismatchError, match=f"dropout {rate} is no probability"):
        MLP(dropout=rate)
