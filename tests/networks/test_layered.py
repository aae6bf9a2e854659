import copy

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb.networks import MLP
from networks.plain_torch import make_network, predict

EVERYTHING = [
    {"nonlinearity": "selu", "dropout": 0.5},
    {"norm": "batch", "bias": True, "dropout": 0.5},
    {"norm": "layer", "nonlinearity": "tanh"},
    {"divisive_norm": {"groups": 4, "power": 0.3, "delta": 0.7}, "norm": "batch", "dropout": 0.2},
]
every_network = pytest.mark.parametrize("options", EVERYTHING, ids=lambda options: "+".join(options))
X = normal(6, 5, seed=50)


@every_network
def test_the_prediction_is_that_of_plain_torch_in_evaluation(options):
    network = make_network(**options)
    assert_close(network(X), predict(network, X, **options), 1e-12)


@every_network
def test_the_prediction_does_not_ask_whether_the_module_is_training(options):
    network = make_network(**options)
    assert torch.equal(network.train()(X), network.eval()(X))


@every_network
def test_a_prediction_changes_nothing_and_draws_nothing(options):
    network = make_network(**options).train()
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    network(X)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@every_network
def test_a_sample_is_predicted_alone_as_in_a_batch(options):
    network = make_network(**options)
    alone = torch.cat([network(x[None]) for x in X])
    assert_close(alone, network(X), 1e-13)


@every_network
def test_no_samples_get_no_predictions(options):
    assert make_network(**options)(X[:0]).shape == (0, 3)


def test_inputs_of_any_shape_are_flattened():
    network = make_network()
    assert torch.equal(network(X.reshape(6, 1, 5)), network(X))


def test_blocks_bear_their_names_in_the_state_dict_from_the_input_up():
    network = make_network(widths=(8, 12, 6))
    state = network.state_dict()
    assert [name for name, _ in network.named_blocks()] == ["blocks.0", "blocks.1", "blocks.2"]
    for name, block in network.named_blocks():
        assert state[f"{name}.weight"].data_ptr() == block.weight.data_ptr()
    assert [block.width for _, block in network.named_blocks()] == [8, 12, 6]


def test_a_state_dict_makes_another_network_predict_the_same():
    network, other = (make_network(norm="batch", seed=seed) for seed in (0, 1))
    assert not torch.equal(other(X), network(X))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(X), network(X))


def test_precision_reaches_every_block_and_not_the_readout():
    network = MLP(64, 10, (64, 64), nonlinearity="tanh")
    x = normal(32, 64).float()
    full = network(x)
    network.precision = "bf16"
    assert network.precision == "bf16"
    assert [block.precision for block in network.blocks] == ["bf16", "bf16"]
    first = network.blocks[0](x)
    assert_close(first, torch.tanh(x.bfloat16().float() @ network.blocks[0].weight.bfloat16().float().T), 1e-2)
    assert not torch.equal(first, torch.tanh(x @ network.blocks[0].weight.T))
    rounded = network(x)
    assert not torch.equal(rounded, full)
    assert_close(rounded, full, 1e-2)
    assert_close(rounded, network.readout(network.blocks[1](first)), 1e-6)
    network.precision = "fp32"
    assert torch.equal(network(x), full)


def test_a_network_in_float64_is_never_rounded():
    network = make_network()
    full = network(X)
    network.precision = "bf16"
    assert torch.equal(network(X), full)
