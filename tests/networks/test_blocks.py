import copy
import math

import pytest
import torch
from torch import nn

from functional import oracles
from functional.oracles import assert_close, normal
from infohebb.errors import GroupingError, MismatchError
from infohebb.functional.dropout import alpha_dropout, dropout
from infohebb.functional.nonlinearities import IDENTITY, RELU
from infohebb.networks import Block, DivisiveNorm
from infohebb.networks.blocks import check_groups
from networks.plain_torch import FUNCTIONS, activity, block_parameters, make_network, output

DIVISIVE = {"groups": 4, "power": 0.3, "delta": 0.7}
X = normal(7, 5, seed=50)
every_norm = pytest.mark.parametrize("norm", [None, "batch", "layer"])
every_divisive = pytest.mark.parametrize("divisive_norm", [None, DIVISIVE], ids=["plain", "divisive"])


def make_block(**options):
    return make_network(widths=(8,), **options).blocks[0]


@every_norm
@every_divisive
@pytest.mark.parametrize("nonlinearity", FUNCTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_the_order_of_operations_while_learning(norm, divisive_norm, nonlinearity, bias):
    options = {"norm": norm, "divisive_norm": divisive_norm, "nonlinearity": nonlinearity, "bias": bias}
    network = make_network(widths=(8,), **options)
    block, expected = network.blocks[0], activity(X, block_parameters(network, 0), **options)
    response = block.respond(X, learning=True)
    assert_close(response.activity, expected, 1e-12)
    assert_close(block.emit(response.activity, learning=True), output(expected, **options), 1e-12)


@every_norm
def test_a_response_holds_what_each_stage_made(norm):
    block = make_block(norm=norm, bias=True, nonlinearity="tanh")
    response = block.respond(X.reshape(7, 1, 5), learning=True)
    assert torch.equal(response.pre, X)
    drive = X @ block.weight.T + block.bias
    assert (response.batch is not None) == (norm == "batch")
    assert (response.layer is not None) == (norm == "layer")
    if norm == "batch":
        assert_close(response.batch.normalised, nn.functional.batch_norm(drive, None, None, training=True), 1e-12)
        expected = block.batch_norm.weight / (drive.var(0, correction=0) + 1e-5).sqrt()
        assert_close(response.batch.scale, expected, 1e-12)
        drive = response.batch.normalised * block.batch_norm.weight + block.batch_norm.bias
    assert_close(response.hidden, torch.tanh(drive), 1e-13)
    if norm == "layer":
        assert torch.equal(response.layer.normalised, response.activity)


@pytest.mark.parametrize("momentum", [0.1, 0.4])
def test_running_statistics_advance_as_torchs_do(momentum):
    block = make_block(norm="batch")
    block.batch_norm.momentum = momentum
    theirs = copy.deepcopy(block.batch_norm).train()
    for x in (X, X[:3] - 1):
        block.respond(x, learning=True)
        theirs(x @ block.weight.T)
    for name, expected in theirs.named_buffers():
        torch.testing.assert_close(block.batch_norm.get_buffer(name), expected, rtol=1e-12, atol=0)


def test_the_epsilon_of_the_given_normalisations_is_used():
    synapses = nn.Linear(5, 8).double()
    x = 0.01 * X
    a = synapses(x)
    batch = Block(synapses, IDENTITY, batch_norm=nn.BatchNorm1d(8, eps=0.5).double())
    assert_close(
        batch.respond(x, learning=True).activity, (a - a.mean(0)) / (a.var(0, correction=0) + 0.5).sqrt(), 1e-12
    )
    layer = Block(synapses, IDENTITY, layer_norm=nn.LayerNorm(8, eps=0.5, elementwise_affine=False))
    expected = (a - a.mean(1, keepdim=True)) / (a.var(1, correction=0, keepdim=True) + 0.5).sqrt()
    assert_close(layer.respond(x).activity, expected, 1e-12)


def test_an_output_normalised_already_is_not_normalised_again():
    block = make_block(divisive_norm=DIVISIVE)
    given = normal(7, 8)
    assert torch.equal(block.emit(normal(7, 8, seed=1), learning=True, normalised=given), given)


@every_divisive
@pytest.mark.parametrize(("nonlinearity", "drop"), [("tanh", dropout), ("relu", dropout), ("selu", alpha_dropout)])
def test_dropout_comes_last_and_is_of_the_kind_the_nonlinearity_asks_for(nonlinearity, drop, divisive_norm):
    block = make_block(nonlinearity=nonlinearity, dropout=0.4, divisive_norm=divisive_norm)
    z = normal(7, 8)
    torch.manual_seed(1)
    got = block.emit(z, learning=True)
    assert torch.equal(z, normal(7, 8))
    torch.manual_seed(1)
    assert_close(got, drop(output(z.clone(), divisive_norm=divisive_norm), 0.4), 1e-12)
    assert_close(block.emit(z), output(z, divisive_norm=divisive_norm), 1e-12)


def test_a_block_takes_the_parameters_of_its_synapses_as_its_own():
    synapses = nn.Linear(5, 8)
    block = Block(synapses, RELU)
    assert block.weight is synapses.weight
    assert block.bias is synapses.bias
    assert block.width == 8
    assert [name for name, _ in block.named_parameters()] == ["weight", "bias"]


def test_divisive_norm_is_per_sample_group_by_group():
    norm, z = DivisiveNorm(4, 0.3, 0.7), normal(7, 8)
    assert_close(norm(z), oracles.divisive_norm(z, **DIVISIVE), 1e-13)
    assert_close(norm(z[:1]), norm(z)[:1], 1e-14)
    assert repr(norm) == "DivisiveNorm(groups=4, power=0.3, delta=0.7)"
    assert (DivisiveNorm().groups, DivisiveNorm().power, DivisiveNorm().delta) == (32, 0.2, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"groups": groups}, f"^{groups} groups; take 2 or more") for groups in (1, 0, -3)),
        ({"power": math.nan}, "^power nan of the groups' variance; take a finite number"),
        ({"power": math.inf}, "^power inf"),
        ({"delta": -1.0}, "^delta -1.0: .* take 0 .* or more"),
        ({"delta": math.nan}, "^delta nan"),
    ],
)
def test_a_divisive_norm_that_cannot_be_is_refused(options, message):
    with pytest.raises(GroupingError, match=message):
        DivisiveNorm(**options)


@pytest.mark.parametrize("x", [X[:1], X[:0]])
def test_batch_norm_learns_nothing_from_a_single_sample_and_predicts_it(x):
    block = make_block(norm="batch")
    before = copy.deepcopy(block.state_dict())
    with pytest.raises(MismatchError, match=r"batch of one sample.*choose a batch size that leaves no last batch of"):
        block.respond(x, learning=True)
    assert block(x).shape == (len(x), 8)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


@pytest.mark.parametrize(
    ("groups", "width", "possible"),
    [
        (5, 24, "2, 3, 4, 6, 8, 12"),
        (24, 24, "2, 3, 4, 6, 8, 12"),
        (1, 6, "2, 3"),
        (7, 1024, "2, 4, 8, 16, 32, 64, 128, 256, …"),
        (2, 13, "none"),
    ],
)
def test_groups_that_do_not_fit_are_refused_by_naming_those_that_do(groups, width, possible):
    with pytest.raises(GroupingError, match=f"^{groups} groups .* {width} neurons .*; possible: {possible}$"):
        check_groups(groups, width)


@pytest.mark.parametrize("groups", [2, 3, 4, 6])
def test_groups_that_fit_are_let_through(groups):
    check_groups(groups, 12)


def test_a_block_and_a_batch_of_the_wrong_width_are_refused():
    with pytest.raises(GroupingError, match="possible: 2, 4"):
        Block(nn.Linear(5, 8), RELU, divisive_norm=DivisiveNorm(3))
    with pytest.raises(GroupingError, match="possible: 2, 4"):
        DivisiveNorm(3)(normal(7, 8))
