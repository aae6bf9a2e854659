"""Stacked networks: train gives each the numbers that it gives one by one."""

import re

import pytest
import torch
from training_toys import data, same, weights

from infohebb import HSICMemory, evaluate, predict, train
from infohebb.errors import MismatchError
from infohebb.networks.plain import MLP, LeakyMLP, stack_networks, unstack
from infohebb.rules import Backprop
from infohebb.training import Diagnose, split_curves
from infohebb.training.statistics import curves_of

OPTIONS = {"batch": 4, "steps_per_sample": 2, "epoch_samples": 6, "order_seed": 1}
OPTIONS |= {"optimizer": {"name": "adam", "lr": 0.01}, "progress": False}
KINDS = {"perceptrons": lambda: MLP(8, 2, (6, 5)), "leaky": lambda: LeakyMLP(8, 2, (6, 5), slots=4, steps=4)}


def networks(kind="perceptrons", count=2):
    torch.manual_seed(0)
    return [KINDS[kind]().double() for _ in range(count)]


def rule(**options):
    return HSICMemory(objective=True, **options)


def check_close(mine, theirs):
    mine = dict(curves_of(mine))
    assert mine.keys() == dict(curves_of(theirs)).keys()
    for name, values in curves_of(theirs):
        assert name == "seconds" or mine[name] == pytest.approx(values, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize(
    ("kind", "memory"), [("perceptrons", "recompute"), ("perceptrons", "stale"), ("leaky", "recompute")]
)
def test_curves_and_weights_are_those_of_each_alone(kind, memory):
    together = stack_networks(networks(kind))
    curves = train(together, rule(memory=memory), data(), epochs=2, **OPTIONS)
    assert [len(curves[name][0]) for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")] == [2] * 4
    for place, single in enumerate(networks(kind)):
        own = train(single, rule(memory=memory), data(), epochs=2, **OPTIONS)
        assert own["objective"].keys() == {"layers.0", "layers.1"}
        check_close(split_curves(curves, place), own)
        for name, weight in unstack(together, place).state_dict().items():
            torch.testing.assert_close(weight, single.state_dict()[name], rtol=1e-9, atol=1e-12)
    assert curves["train_loss"][1][0] != pytest.approx(curves["train_loss"][1][1], rel=1e-6)


def test_numbers_to_predict_have_an_error_each():
    inputs = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).double()
    pieces = (inputs, inputs[:, :2], inputs[:10], inputs[:10, :2])
    together = stack_networks(networks())
    curves = train(together, rule(), pieces, epochs=1, **OPTIONS)
    outputs = predict(together, inputs, batch=7)
    assert outputs.shape == (2, 30, 2)
    for place, single in enumerate(networks()):
        check_close(split_curves(curves, place), train(single, rule(), pieces, epochs=1, **OPTIONS))
        assert evaluate(together, pieces)["error"][place] == pytest.approx(evaluate(single, pieces)["error"], rel=1e-9)
        torch.testing.assert_close(outputs[place], predict(single, inputs))


def test_labels_have_an_accuracy_each():
    singles = networks("leaky")
    assert evaluate(stack_networks(singles), data())["accuracy"] == [
        evaluate(one, data())["accuracy"] for one in singles
    ]


def test_what_trains_one_network_at_a_time_says_so():
    together = stack_networks(networks())
    before = weights(together)
    with pytest.raises(MismatchError, match="Backprop trains one network at a time, not 2 stacked ones"):
        train(together, rule(), data(), epochs=1, diagnose=Diagnose(Backprop()), **OPTIONS)
    with pytest.raises(MismatchError, match="Backprop trains one network at a time, not 2 stacked ones"):
        train(together, Backprop(), data(), epochs=1)
    assert same(weights(together), before)


@pytest.mark.parametrize(
    ("make", "one", "other", "words"),
    [
        (LeakyMLP, {}, {"tau": 1e-2}, "step_fraction of layers.0"),
        (LeakyMLP, {}, {"steps": 10}, "steps of the network differs: 20, and 10"),
        (LeakyMLP, {}, {"slots": 4}, "layers.0"),
        (LeakyMLP, {}, {"norm_epsilon": 1e-3}, "eps of layers.0"),
        (MLP, {"nonlinearity": "relu"}, {"nonlinearity": "tanh"}, "the class of layers.0"),
        (MLP, {"slope": 0.1}, {"slope": 0.2}, "negative_slope of layers.0"),
        (MLP, {}, {"norm": "layer"}, "the class of layers.0"),
        (MLP, {}, {"bias": True}, "layers.0"),
        (MLP, {}, {"dropout": 0.1}, "the class of layers.0"),
        (MLP, {}, {"divisive_norm": {"groups": 2}}, "the class of layers.0"),
        (MLP, {"divisive_norm": {"groups": 2}}, {"divisive_norm": {"groups": 3}}, "groups of layers.0.divisive_norm"),
    ],
)
def test_networks_that_differ_in_more_than_weights_are_refused(make, one, other, words):
    with pytest.raises(MismatchError, match=rf"^{re.escape(words)}.*the same layers and settings$"):
        stack_networks([make(8, 2, (6, 12), **one), make(8, 2, (6, 12), **other)])


def test_networks_of_other_classes_precision_or_frozen_weights_are_refused():
    frozen = MLP(8, 2, (6,))
    frozen.readout.requires_grad_(False)
    others = {
        "the class of the network differs: MLP, and LeakyMLP": LeakyMLP(8, 2, (6,)),
        "readout.weight differs": frozen,
        "layers.0.*weight differs.*float64": MLP(8, 2, (6,)).double(),
    }
    for words, other in others.items():
        with pytest.raises(MismatchError, match=words):
            stack_networks([MLP(8, 2, (6,)), other])
    assert stack_networks([MLP(8, 2, (6,), slope=0.1), MLP(8, 2, (6,), slope=0.1).eval()]).stacked == 2
