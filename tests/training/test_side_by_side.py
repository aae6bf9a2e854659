"""Networks side by side: the loop gives each the numbers that it gives one by one."""

import re

import pytest
import torch
from training_toys import data

from infohebb import MLP, HSICMemory, evaluate, predict, side_by_side, train
from infohebb.errors import MismatchError, NonFiniteLossError
from infohebb.networks import LeakyMLP, alone
from infohebb.rules import Backprop
from infohebb.training import Diagnose, split_curves
from infohebb.training.loop import Checkpoints

OPTIONS = {"batch": 4, "hold": 2, "epoch_samples": 25, "order_seed": 1, "optimizer": {"name": "adam", "lr": 0.01}}


def networks(count=3, outputs=2):
    found = []
    for seed in range(count):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found.append(MLP(8, outputs, (6, 5)).double())
    return found


def rule(**options):
    return HSICMemory(objective=True, **options)


def close(mine, theirs):
    for name, line in theirs.items():
        if isinstance(line, dict):
            close(mine[name], line)
        elif name != "seconds":
            assert mine[name] == pytest.approx(line, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("memory", ["recompute", "stale"])
def test_curves_and_weights_are_those_of_each_alone(memory):
    singles, together = networks(), side_by_side(networks())
    curves = train(together, rule(memory=memory), data(), epochs=3, **OPTIONS)
    assert len(curves["train_loss"]) == len(curves["test_accuracy"]) == 3
    assert len(curves["train_loss"][0]) == 3
    for place, single in enumerate(singles):
        own = train(single, rule(memory=memory), data(), epochs=3, **OPTIONS)
        part = split_curves(curves, place)
        assert part.keys() == own.keys()
        assert part["objective"].keys() == own["objective"].keys() == {"block1", "block2"}
        close(part, own)
        for name, weight in alone(together, place).state_dict().items():
            torch.testing.assert_close(weight, single.state_dict()[name], rtol=1e-9, atol=1e-12)
    assert curves["train_loss"][2][0] != pytest.approx(curves["train_loss"][2][1], rel=1e-6)


def test_numbers_to_predict_have_an_error_each():
    inputs = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).double()
    pieces = (inputs, inputs[:, :2], inputs[:10], inputs[:10, :2])
    singles, together = networks(2), side_by_side(networks(2))
    curves = train(together, rule(), pieces, epochs=1, **OPTIONS)
    for place, single in enumerate(singles):
        own = train(single, rule(), pieces, epochs=1, **OPTIONS)
        close(split_curves(curves, place), own)
        assert evaluate(together, pieces)["error"][place] == pytest.approx(evaluate(single, pieces)["error"], rel=1e-9)
        torch.testing.assert_close(predict(together, inputs, batch=7)[place], predict(single, inputs))


def test_they_go_on_from_their_checkpoint_to_the_same_bits(tmp_path):
    whole, part, rest = (side_by_side(networks()) for _ in range(3))
    curves = train(whole, rule(memory="stale"), data(), epochs=3, **OPTIONS)
    train(part, rule(memory="stale"), data(), epochs=1, checkpoints=Checkpoints(tmp_path), **OPTIONS)
    resumed = train(rest, rule(memory="stale"), data(), epochs=3, checkpoints=Checkpoints(tmp_path), **OPTIONS)
    assert all(resumed[name] == curves[name] for name in curves if name != "seconds")
    for name, weight in rest.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name])


def test_the_one_that_explodes_is_named():
    together = side_by_side(networks())
    with torch.no_grad():
        together.readout.weight[1] = torch.inf
    with pytest.raises(NonFiniteLossError, match="readout's loss of network 1 is no longer finite"):
        train(together, rule(), data(), epochs=1, **OPTIONS)


def test_what_needs_a_network_alone_says_so():
    with pytest.raises(MismatchError, match="diagnose measures one network, not several side by side"):
        train(side_by_side(networks()), rule(), data(), epochs=1, diagnose=Diagnose(Backprop()), **OPTIONS)
    with pytest.raises(MismatchError, match="Backprop trains one network at a time"):
        train(side_by_side(networks()), Backprop(), data(), epochs=1)


@pytest.mark.parametrize(
    ("make", "one", "other", "told"),
    [
        (LeakyMLP, {}, {"tau": 1e-2}, "share of the network differs: 0.2, and 0.1 in network 1"),
        (LeakyMLP, {}, {"dt": 5e-4}, "share of the network"),
        (LeakyMLP, {}, {"steps": 10}, "steps of the network differs: 20, and 10"),
        (LeakyMLP, {}, {"slots": 4}, "blocks.0.potential differs"),
        (LeakyMLP, {}, {"norm_epsilon": 1e-3}, "eps of blocks.0.layer_norm"),
        (MLP, {"nonlinearity": "relu"}, {"nonlinearity": "tanh"}, "nonlinearity of blocks.0 differs in network 1"),
        (MLP, {"slope": 0.1}, {"slope": 0.2}, "nonlinearity of blocks.0"),
        (MLP, {}, {"norm": "layer"}, "the class of blocks.0.layer_norm differs: None, and LayerNorm"),
        (MLP, {"norm": "layer"}, {}, "the class of blocks.0.layer_norm"),
        (MLP, {}, {"bias": True}, "blocks.0.bias differs: None"),
        (MLP, {}, {"dropout": 0.1}, "dropout of blocks.0 differs: 0.0, and 0.1"),
        (MLP, {}, {"divisive_norm": {"groups": 2}}, "the class of blocks.0.divisive_norm"),
        (MLP, {"divisive_norm": {"groups": 2}}, {"divisive_norm": {"groups": 3}}, "groups of blocks.0.divisive_norm"),
    ],
)
def test_networks_that_differ_in_more_than_weights_are_refused(make, one, other, told):
    with pytest.raises(MismatchError, match=rf"^{re.escape(told)}.*the same layers and settings$"):
        side_by_side([make(8, 2, (6, 12), **one), make(8, 2, (6, 12), **other)])


def test_networks_of_other_classes_precision_or_frozen_weights_are_refused():
    half, frozen = MLP(8, 2, (6,)), MLP(8, 2, (6,))
    half.precision = "bf16"
    frozen.readout.requires_grad_(False)
    others = {
        "the class of the network differs: MLP, and LeakyMLP": LeakyMLP(8, 2, (6,)),
        "precision of blocks.0 differs: fp32, and bf16": half,
        "readout.weight differs": frozen,
        "blocks.0.weight differs.*float64": MLP(8, 2, (6,)).double(),
    }
    for told, other in others.items():
        with pytest.raises(MismatchError, match=told):
            side_by_side([MLP(8, 2, (6,)), other])
    assert side_by_side([MLP(8, 2, (6,), slope=0.1), MLP(8, 2, (6,), slope=0.1).eval()]).networks == 2
