"""train on a plain module: a Learner and fit, with the settings of train honoured or refused by name."""

import pytest
import torch
from fit_toys import Own, arrays, same, sequential, weights
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

import infohebb
from infohebb import data, networks
from infohebb.errors import LabelError, MismatchError, WrongTypeError
from infohebb.training import Diagnose

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


def test_a_shuffling_data_loader_follows_the_seed():
    loader = DataLoader(TensorDataset(*arrays()), batch_size=25, shuffle=True)
    ends = []
    for seed in (1, 1, 2):
        model = sequential()
        train(model, given=loader, seed=seed)
        ends.append(weights(model))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])
    with pytest.raises(MismatchError, match="data is an iterator, which can be read once only; give a list or a Data"):
        train(sequential(), given=iter(loader))


def test_optimizers_go_by_role_unit_and_name():
    adam = {"name": "adam", "lr": {"units": [0.1, 0.2], "head": 0.3}, "weight_decay": {"units": 0.0, "head": 0.5}}
    rates = train(sequential(), optimizer=adam)["learning_rate"]
    assert {name: rate[0] for name, rate in rates.items()} == {"units.0": 0.1, "units.1": 0.2, "head": 0.3}
    model = sequential()
    own = torch.optim.Adam(model.parameters(), lr=0.07)
    assert train(model, optimizer=own)["learning_rate"] == {"group0": [0.07, 0.07]}


SCHEDULES = {
    "milestones": {"milestones": [1, 3], "factor": 0.3},
    "powers": {"powers": [[2, 0.9], [4, 0.8]]},
    "milestones and powers": {"milestones": [2], "factor": 0.7, "powers": [[1, 0.95], [3, 0.9]]},
    "factor_every": {"factor_every": 4, "factor": 0.9},
    "never": {"factor_every": 0, "factor": 0.9},
}
NETWORKS = {
    "a plain module": (sequential, infohebb.KernelizedBottleneck),
    "a network that settles": (lambda: infohebb.PredictiveCodingNetwork(8, 2, (6,)), infohebb.PredictiveCoding),
}


@pytest.mark.parametrize(
    ("network", "schedule"),
    [
        *(("a plain module", schedule) for schedule in SCHEDULES),
        *(("a network that settles", schedule) for schedule in ("milestones and powers", "factor_every")),
    ],
)
def test_rates_are_those_of_the_schedule_to_the_last_bit(network, schedule):
    model, rule = NETWORKS[network]
    asked = {"milestones": [], "powers": [], "factor": 1.0, "factor_every": 0, **SCHEDULES[schedule]}
    seen = []

    def keep(optimizer, *_):
        seen.append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_pre_hook(keep)
    try:
        history = train(model(), rule(), epochs=5, optimizer={"lr": 0.07}, **SCHEDULES[schedule])
    finally:
        handle.remove()
    wanted = []
    for step in range(15):
        epoch = 1 + step // 3
        begun = [base for first, base in asked["powers"] if first <= epoch]
        falls = sum(milestone < epoch for milestone in asked["milestones"])
        falls += step // asked["factor_every"] if asked["factor_every"] else 0
        wanted.append(0.07 * (asked["factor"] ** falls * (begun[-1] ** (epoch - 1) if begun else 1.0)))
    assert seen == wanted
    assert all(rates == wanted[::3] for rates in history["learning_rate"].values())


def test_a_scheduler_changes_the_rates():
    model = sequential()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    rates = train(model, optimizer=optimizer, scheduler=scheduler)["learning_rate"]["group0"]
    assert rates == pytest.approx([1.0, 0.1])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"milestones": [1], "factor_every": 2}, "milestones and factor_every each set learning rates; give one"),
        ({"powers": [[1, 0.9]], "factor_every": 2}, "powers and factor_every each set learning rates"),
        ({"milestones": [1], "powers": [[1, 0.9]], "factor_every": 2}, "milestones, powers and factor_every each set"),
        ({"milestones": [1], "scheduler": True}, "milestones and scheduler each set learning rates"),
        ({"powers": [[1, 0.9]], "scheduler": True}, "powers and scheduler each set learning rates"),
        ({"factor_every": 2, "scheduler": True}, "factor_every and scheduler each set learning rates"),
    ],
)
def test_schedules_that_do_not_go_together_are_refused_by_name(asked, words):
    model = sequential()
    before = weights(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if "scheduler" in asked:
        asked = {**asked, "optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1)}
    with pytest.raises(MismatchError, match=words):
        train(model, **asked)
    assert same(weights(model), before)


def test_data_sets_and_validation_give_their_curves():
    blobs = data.blobs(60, features=8)
    assert "test_accuracy" in train(sequential(), given=blobs)
    history = train(sequential(), given=blobs, held_out="validation")
    assert "validation_accuracy" in history
    assert history["samples"][0] < len(blobs.train.targets)


def test_networks_that_settle_round_their_products_in_bf16():
    full, rounded = (infohebb.PredictiveCodingNetwork(8, 2, (64, 64)) for _ in range(2))
    rounded.load_state_dict(full.state_dict())
    for network, precision in ((full, "fp32"), (rounded, "bf16")):
        train(network, infohebb.PredictiveCoding(), epochs=1, precision=precision)
        assert network.precision == precision
    assert not same(weights(full), weights(rounded))


def test_diagnose_is_the_alignment_callback():
    history = train(sequential(), diagnose=Diagnose(infohebb.Backprop(), every=2))
    assert history["alignment"]["epoch"] == [0, 2]
    assert set(history["alignment"]["angle"]) == {"0.weight", "4.weight", "6.weight"}


def test_what_a_rule_monitors_has_curves_unless_a_loader_has_no_samples_to_set_apart():
    for given, curves in ((arrays(), {"epoch": [0, 1]}), ([arrays()], None)):
        network = infohebb.CorInfoMaxNetwork(8, 2, (6,))
        history = train(network, infohebb.CorInfoMax(), given, epochs=1)
        assert (history.get("monitor") and {"epoch": history["monitor"]["epoch"]}) == curves


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


SETTLING = (infohebb.CorInfoMaxNetwork, infohebb.CorInfoMax)
ALIGNED = (lambda *_: sequential(), infohebb.FeedbackAlignment)
PLAIN = (lambda *_: sequential(), infohebb.KernelizedBottleneck)
REPLAYED = "cuda_graphs replays compiled steps on a GPU: give compiled = true, and cuda, not cpu"


@pytest.mark.parametrize(
    ("pair", "options", "words"),
    [
        (PLAIN, {"steps_per_sample": 2}, "steps_per_sample=2: KernelizedBottleneck learns from batches"),
        (PLAIN, {"cuda_graphs": True}, REPLAYED),
        (PLAIN, {"cuda_graphs": True, "compiled": True}, REPLAYED),
        (SETTLING, {"compiled": True}, "CorInfoMax trains a network as a whole, .*leave it out"),
        (ALIGNED, {"compiled": True}, "FeedbackAlignment intercepts the calls of torch inside units.*compiled=True"),
        (SETTLING, {"units": ["layers.*"]}, "CorInfoMax trains a CorInfoMaxNetwork as a whole; leave units= out"),
    ],
)
def test_settings_that_a_rule_cannot_have_are_refused_by_name(pair, options, words):
    model, rule = pair
    with pytest.raises(MismatchError, match=words):
        train(model(8, 2, (6,)), rule(), device="cpu", **options)


@pytest.mark.parametrize("options", [{"units": ["blocks.*"]}, {"head": "readout"}, {"scheduler": object()}])
def test_settings_of_a_learner_are_refused_on_networks_of_blocks(options):
    name = next(iter(options))
    with pytest.raises(MismatchError, match=f"{name}=.* is for plain modules, not for a MLP"):
        train(networks.MLP(8, 2, (16,)), **options)


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
    with pytest.raises(WrongTypeError, match="lr is -1; it must be a number"):
        train(sequential(), optimizer={"name": "sgd", "lr": -1})


class Mine(infohebb.LocalRule):
    """A rule on the new contract alone."""

    def error(self, z, signal, context, unit):
        return infohebb.LocalError(None, z, z)


def test_a_rule_of_the_new_contract_alone_trains_plain_modules_only():
    assert train(sequential(), Mine())["epoch"] == [1, 2]
    with pytest.raises(MismatchError, match=r"Mine trains plain modules, not a MLP; .*networks\.plain"):
        train(networks.MLP(8, 2, (16,)), Mine())


def test_a_rule_of_the_new_contract_alone_is_a_reference():
    history = train(sequential(), diagnose=Diagnose(Mine()))
    assert history["alignment"]["epoch"] == [0, 1, 2]


def test_compiled_asks_the_learner_for_compiled_steps(monkeypatch):
    asked = []
    monkeypatch.setattr(infohebb.Learner, "compile", lambda self, **options: asked.append(options))
    train(sequential(), compiled=True)
    assert asked == [{"cuda_graphs": False}]
