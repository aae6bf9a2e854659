"""train on a plain module: a Learner and fit, with the settings of train honoured or refused by name."""

import pytest
import torch
from fit_toys import Own, arrays, same, sequential, weights
from torch import nn

import infohebb
from infohebb import data
from infohebb.errors import LabelError, MismatchError, UsageError, WrongTypeError
from infohebb.training import Checkpoints, Diagnose

UNITS = {"units": ["stem", "body"], "head": "fc"}


def train(model, rule=None, given=None, **options):
    rule = infohebb.KernelizedBottleneck() if rule is None else rule
    given = arrays() if given is None else given
    return infohebb.train(model, rule, given, **{"epochs": 2, "batch": 20, "progress": False, **options})


def test_any_module_trains_in_one_line():
    history = train(Own(), given=(*arrays(), *arrays(40, seed=1)), **UNITS)
    assert history["epoch"] == [1, 2]
    assert {"test_loss", "test_accuracy", "train_accuracy"} <= set(history)
    assert set(history["learning_rate"]) == {"units", "head"}


def test_it_is_fit_with_a_learner():
    one, other = sequential(), sequential()
    train(one, seed=4)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        learner = infohebb.Learner(other, infohebb.KernelizedBottleneck())
        optimizer = torch.optim.SGD(learner.param_groups(), lr=0.1, momentum=0.9, fused=True)
        infohebb.fit(learner, arrays(), epochs=2, batch=20, optimizer=optimizer, progress=False)
    assert same(weights(one), weights(other))


def test_orders_and_lengths_of_epochs_are_those_of_fit():
    asked = {"order": "blocked", "order_seed": 2, "epoch_samples": 25}
    one, other = sequential(dropout=0.0), sequential(dropout=0.0)
    assert train(one, **asked)["samples"] == [25, 50]
    learner = infohebb.Learner(other, infohebb.KernelizedBottleneck())
    optimizer = torch.optim.SGD(learner.param_groups(), lr=0.1, momentum=0.9, fused=True)
    infohebb.fit(learner, arrays(), epochs=2, batch=20, optimizer=optimizer, progress=False, **asked)
    assert same(weights(one), weights(other))


def test_a_seed_leaves_the_callers_random_numbers_alone():
    model, given = sequential(), arrays()
    before = torch.get_rng_state()
    train(model, given=given)
    assert torch.equal(torch.get_rng_state(), before)


def test_optimizers_go_by_role_unit_and_name():
    adam = {"name": "adam", "lr": {"units": [0.1, 0.2], "head": 0.3}, "weight_decay": {"head": 0.5}}
    rates = train(sequential(), optimizer=adam)["learning_rate"]
    assert {name: rate[0] for name, rate in rates.items()} == {"units.0": 0.1, "units.1": 0.2, "head": 0.3}
    model = sequential()
    own = torch.optim.Adam(model.parameters(), lr=0.07)
    assert train(model, optimizer=own)["learning_rate"] == {"group0": [0.07, 0.07]}


def test_milestones_and_a_scheduler_change_the_rates():
    rates = train(sequential(), epochs=3, milestones=[1], factor=0.5)["learning_rate"]["units"]
    assert rates == [0.1, 0.05, 0.05]
    model = sequential()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    rates = train(model, optimizer=optimizer, scheduler=scheduler)["learning_rate"]["group0"]
    assert rates == pytest.approx([1.0, 0.1])


def test_data_sets_and_validation_give_their_curves():
    blobs = data.blobs(60, features=8)
    assert "test_accuracy" in train(sequential(), given=blobs)
    history = train(sequential(), given=blobs, held_out="validation")
    assert "validation_accuracy" in history
    assert history["samples"][0] < len(blobs.train.targets)


def test_bf16_rounds_and_channels_last_does_not():
    def convolutional():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))

    images = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    given = images, torch.arange(40) % 2
    plain, last, rounded = convolutional(), convolutional(), convolutional()
    train(plain, given=given)
    train(last, given=given, channels_last=True)
    train(rounded, given=given, precision="bf16")
    assert last[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(plain[0].weight, last[0].weight, atol=1e-5)
    assert not same(weights(plain), weights(rounded))


def test_checkpoints_are_gone_on_with(tmp_path):
    whole, halves = sequential(), sequential()
    train(whole, epochs=4, checkpoints=Checkpoints(tmp_path / "a"))
    train(sequential(), epochs=2, checkpoints=Checkpoints(tmp_path / "b"))
    history = train(halves, epochs=4, checkpoints=Checkpoints(tmp_path / "b"))
    assert history["epoch"] == [1, 2, 3, 4]
    assert same(weights(whole), weights(halves))


def test_diagnose_is_the_alignment_callback():
    history = train(sequential(), diagnose=Diagnose(infohebb.Backprop(), every=2))
    assert history["alignment"]["epoch"] == [0, 2]
    assert set(history["alignment"]["angle"]) == {"0.weight", "4.weight", "6.weight"}


def test_a_rule_used_twice_on_a_model_keeps_its_feedback():
    model, rule = sequential(), infohebb.DirectFeedbackAlignment()
    train(model, rule)
    before = weights(rule)
    train(model, rule, seed=1)
    assert same(weights(rule), before)
    train(sequential(), rule, seed=1)
    assert not same(weights(rule), before)


def test_plain_networks_of_ours_know_their_units():
    model = infohebb.networks.plain.MLP(8, 2, (16, 16), divisive_norm={"groups": 4}, dropout=0.1)
    assert set(train(model)["objective"]) == {"layers.0", "layers.1"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"steps_per_sample": 2},
            "steps_per_sample=2: KernelizedBottleneck learns from batches, each of which is one step; leave it out",
        ),
        ({"powers": [[1, 0.9]]}, r"powers=\[\[1, 0.9\]\] does not apply.*ExponentialLR"),
        ({"factor_every": 3}, "factor_every=3 does not apply.*scheduler_per='step'"),
        ({"cuda_graphs": True}, "cuda_graphs=True does not apply.*compiled=True"),
    ],
)
def test_settings_of_other_networks_are_refused_by_name(options, words):
    with pytest.raises(MismatchError, match=words):
        train(sequential(), **options)


@pytest.mark.parametrize("options", [{"units": ["blocks.*"]}, {"head": "readout"}, {"scheduler": object()}])
def test_settings_of_a_learner_are_refused_on_our_own_networks(options):
    name = next(iter(options))
    with pytest.raises(MismatchError, match=f"{name}=.* is for plain modules, not for a MLP"):
        train(infohebb.MLP(8, 2, (16,)), **options)


class Old(infohebb.rules.TransportRule):
    """A rule on the old contract alone."""

    def feedback_weight(self, position, layer):
        return layer.weight


def test_what_does_not_fit_is_one_line():
    with pytest.raises(MismatchError, match="Old trains a Layered network, not a Sequential"):
        train(sequential(), Old())
    with pytest.raises(MismatchError, match="give the units of this"):
        train(Own())
    with pytest.raises(LabelError, match="all labels are of one class"):
        train(sequential(), given=(arrays()[0], torch.zeros(60).long()))
    with pytest.raises(UsageError, match="a plain module has no role 'local'; use units and head"):
        train(sequential(), optimizer={"name": "sgd", "lr": {"local": 0.1}})
    with pytest.raises(WrongTypeError, match="lr is -1; it must be a number"):
        train(sequential(), optimizer={"name": "sgd", "lr": -1})
    model = sequential()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(MismatchError, match="both set learning rates"):
        train(model, optimizer=optimizer, scheduler=scheduler, milestones=[1])


class Mine(infohebb.LocalRule):
    """A rule on the new contract alone."""

    def error(self, z, signal, context, unit):
        return infohebb.LocalError(None, z, z)


def test_a_rule_of_the_new_contract_alone_trains_plain_modules_only():
    assert train(sequential(), Mine())["epoch"] == [1, 2]
    with pytest.raises(MismatchError, match=r"Mine trains plain modules, not a MLP; .*networks\.plain"):
        train(infohebb.MLP(8, 2, (16,)), Mine())


def test_compiled_asks_the_learner_for_compiled_steps(monkeypatch):
    asked = []
    monkeypatch.setattr(infohebb.Learner, "compile", lambda self, **options: asked.append(options))
    train(sequential(), compiled=True)
    assert asked == [{"dynamic": False, "options": {"fallback_random": True}}]
