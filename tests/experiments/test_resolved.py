"""A record's configuration says everything, for every rule of the registry."""

import json

import pytest

from infohebb.errors import MismatchError, RecipeError, UnknownKeyError, WrongTypeError
from infohebb.experiments.build import check_config, resolved
from infohebb.rules import registry

SETTLING = {  # the networks of rules that train no MLP, and a default that their records hold
    "ContrastiveSimilarityMatching": ({"name": "equilibrium", "lateral": True}, ("gain", 1.0)),
    "CorInfoMax": ({"name": "corinfomax"}, ("leak", 0.5)),
    "EquilibriumPropagation": ({"name": "equilibrium"}, ("lateral", False)),
    "PredictiveCoding": ({"name": "predictive_coding"}, ("nonlinearity", "sigmoid")),
    "PredictiveCodingNudge": ({"name": "predictive_coding", "nonlinearity": "relu"}, ("widths", [256])),
}


@pytest.mark.parametrize("name", registry())
def test_every_rule_has_a_configuration_that_json_can_hold(name):
    training = {"batch": 1} if registry()[name].consumes == "sample" else {}
    network, default = SETTLING.get(name, ({}, ("slope", 0.01)))
    words = {"data": {}, "network": network, "rule": {"name": name}, "optimizer": {}, "training": training}
    check_config(words)
    full = resolved(words)
    assert json.loads(json.dumps(full)) == full
    assert full["training"]["epochs"] == 10
    assert default in full["network"].items()
    check_config(full)
    assert resolved(full) == full


def config_with(optimizer, **training):
    network = {"widths": [16, 16], "divisive_norm": {"groups": 4}}
    return {"data": {"name": "mnist"}, "network": network, "rule": {}, "optimizer": optimizer, "training": training}


def test_a_list_of_rates_is_held_against_the_network():
    lists = {"lr": {"units": [1.0, 0.5], "head": [0.1]}, "weight_decay": {"units": [0.0, 0.1], "head": 0.0}}
    full = resolved(config_with(lists))
    check_config(full)
    assert resolved(json.loads(json.dumps(full))) == full
    with pytest.raises(MismatchError, match="units: 3 values for 2 units"):
        check_config(config_with({"lr": {"units": [1.0, 0.5, 0.2], "head": 0.1}}))
    with pytest.raises(WrongTypeError, match=r"optimizer\.lr\.units is \[1\.0, -1\.0\]"):
        check_config(config_with({"lr": {"units": [1.0, -1.0], "head": 0.1}}))
    with pytest.raises(WrongTypeError, match=r"optimizer: lr = .*'fast'"):
        check_config(config_with({"lr": {"units": [1.0, "fast"], "head": 0.1}}))
    with pytest.raises(WrongTypeError, match=r"optimizer\.lr gives no number for the 'head' parameters"):
        check_config(config_with({"lr": {"units": 1.0}}))


def test_optimizers_that_torch_lacks_have_their_options_checked():
    check_config(config_with({"name": "sgd_then_decay", "lr": 0.1, "decay_follows_rate": False}))
    check_config(config_with({"name": "adam_epsilon_hat", "betas": [0.9, 0.99], "eps": 1e-6}))
    with pytest.raises(UnknownKeyError, match=r"optimizer\.momentum: SGDThenDecay has no such option"):
        check_config(config_with({"name": "sgd_then_decay", "momentum": 0.9}))


def test_schedules_are_words_of_a_training():
    schedule = {"powers": [[1, 0.95], [16, 0.9]], "factor_every": 30_000}
    check_config(config_with({"lr": 0.1}, **schedule))
    assert resolved(config_with({"lr": 0.1}, **schedule))["training"].items() >= schedule.items()
    with pytest.raises(WrongTypeError, match="training: powers"):
        check_config(config_with({"lr": 0.1}, powers=0.9))
    with pytest.raises(WrongTypeError, match=r"training: factor_every = 1\.5"):
        check_config(config_with({"lr": 0.1}, factor_every=1.5))


def test_a_preparation_of_images_is_kept_and_checked_before_anything_is_read():
    words = config_with({"lr": 0.1})
    assert resolved(words)["data"] == {"name": "mnist"}, "as records from before say it"
    words["data"] |= {"mean": [0.0], "std": [1.0], "augment": False}
    check_config(words)
    assert resolved(words)["data"] == words["data"]
    for changed, says in [
        ({"std": [0.0]}, r"^data: mnist: std = \[0\.0\]: give numbers above 0"),
        ({"mean": [0.0, 0.0]}, r"^data: mnist: mean = \[0\.0, 0\.0\] for images of 1 channel"),
        ({"name": "digits"}, "^data: digits is no set of raw images"),
    ]:
        with pytest.raises(MismatchError, match=says):
            check_config({**words, "data": words["data"] | changed})
    with pytest.raises(RecipeError, match=r"^data: your own arrays are taken as they are; leave out augment"):
        check_config({**words, "data": {"path": "a.npz", "augment": False}})
    check_config({**words, "data": {"name": "cifar100"}})
