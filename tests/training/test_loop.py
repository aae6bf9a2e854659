"""train: its curves, what is held out, and what stops it."""

import pytest
import torch
from training_toys import Untouchable, data, network, rule, same, weights

import infohebb
from infohebb import Backprop, KernelizedBottleneck, LastLayer
from infohebb.data import DataSet, from_arrays
from infohebb.errors import GroupingError, MismatchError, NonFiniteLossError
from infohebb.training import Diagnose

SGD = {"name": "sgd", "lr": {"units": 1.0, "head": 0.05}, "momentum": 0.9}


def train(*given, **options):
    return infohebb.train(*given, **{"progress": False, **options})


def test_curves_hold_every_epoch():
    net, dataset = network(), data()
    gamma = 2.0
    curves = train(net, rule(gamma=gamma), dataset, epochs=3, batch=25, optimizer=SGD, milestones=[1, 2], factor=0.5)
    per_epoch = ["train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"]
    assert set(curves) == {"epoch", "samples", "learning_rate", "objective", *per_epoch}
    assert curves["samples"] == [60, 120, 180]
    assert curves["epoch"] == [1, 2, 3]
    assert [len(curves[name]) for name in per_epoch] == [3] * 5
    assert curves["learning_rate"] == {"units": [1.0, 0.5, 0.25], "head": [0.05, 0.025, 0.0125]}
    assert list(curves["objective"]) == ["layers.0", "layers.1"]
    for lines in curves["objective"].values():
        combined = [c - gamma * r for c, r in zip(lines["compression"], lines["relevance"], strict=True)]
        assert lines["objective"] == pytest.approx(combined, rel=1e-4, abs=1e-8)
    right = sum(int(net.eval()(one[None]).argmax() == label) for one, label in zip(*dataset.test, strict=True))
    assert curves["test_accuracy"][-1] == pytest.approx(100 * right / 60)
    assert all(seconds > 0 for seconds in curves["seconds"])


def test_curves_weigh_batches_by_their_samples():
    inputs, labels = data(10).train
    net = network()
    frozen = {"name": "sgd", "lr": 0.0}
    curves = train(net, Backprop(), (inputs, labels), epochs=2, batch=4, optimizer=frozen)
    with torch.no_grad():
        logits = net(inputs)
    assert curves["train_loss"] == pytest.approx([float(torch.nn.functional.cross_entropy(logits, labels))] * 2)
    assert curves["train_accuracy"] == pytest.approx([100 * float((logits.argmax(1) == labels).float().mean())] * 2)
    assert curves["objective"] == {}


@pytest.mark.parametrize("make", [KernelizedBottleneck, Backprop, LastLayer])
def test_each_rule_learns_blobs_and_moves_what_it_names(make):
    net = network()
    before = weights(net)
    lr = {"units": 1.0, "head": 0.1} if make is KernelizedBottleneck else 0.1
    curves = train(net, make(), data(200), epochs=5, batch=20, optimizer={"lr": lr, "momentum": 0.9})
    assert curves["test_accuracy"][-1] > 90
    assert curves["train_loss"][-1] < curves["train_loss"][0]
    moved = {name for name, value in weights(net).items() if not torch.equal(value, before[name])}
    assert moved == ({"readout.weight", "readout.bias"} if make is LastLayer else before.keys())


def test_continuous_targets_are_scored_by_their_mean_squared_error():
    inputs = torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
    targets = torch.stack([inputs[:, 0] + inputs[:, 1], inputs[:, 2]], 1)
    net = network()
    pieces = (inputs[:80], targets[:80], inputs[80:], targets[80:])
    curves = train(net, rule(), pieces, epochs=15, batch=20, optimizer={"name": "adam", "lr": 0.01})
    assert not {"train_accuracy", "test_accuracy"} & curves.keys()
    assert curves["test_error"][-1] == pytest.approx((net(inputs[80:]) - targets[80:]).square().mean().item(), rel=1e-5)
    assert curves["test_error"][-1] < 0.7 * curves["test_error"][0]


def test_validation_never_reads_the_test_set():
    poisoned = DataSet("poisoned", data().train, Untouchable(torch.zeros(1, 8), torch.zeros(1).long()), 2)
    asked = {"held_out": "validation", "diagnose": Diagnose(Backprop())}
    curves = train(network(), rule(), poisoned, epochs=2, **asked)
    assert curves["alignment"]["epoch"] == [0, 1, 2]
    assert len(curves["validation_accuracy"]) == len(curves["validation_loss"]) == 2
    assert "test_accuracy" not in curves
    with pytest.raises(AssertionError, match="test split was read"):
        train(network(), rule(), poisoned, epochs=1)


def test_validation_holds_out_a_tenth_of_arrays_and_drops_their_test_set():
    split = data(50).train
    wrong = (split.inputs, 1 - split.targets)
    tested, curves = network(), train(network(), rule(), (*split, *wrong), epochs=1, held_out="validation", batch=5)
    assert set(curves) & {"test_accuracy", "validation_accuracy"} == {"validation_accuracy"}
    alone = network()
    curves_alone = train(alone, rule(), from_arrays(*split), epochs=1, held_out="validation", batch=5)
    assert curves["samples"] == [45]
    assert curves["validation_accuracy"] == curves_alone["validation_accuracy"]
    train(tested, rule(), (*split, *wrong), epochs=1, batch=5)
    assert not same(weights(tested), weights(alone)), "training saw the samples held out"


def test_validation_needs_a_set_that_can_be_split():
    with pytest.raises(MismatchError, match="validation"):
        train(network(), rule(), [tuple(data().train)], epochs=1, held_out="validation")


def test_what_explodes_is_named_with_epoch_and_step():
    wild = {"lr": {"units": 1e30, "head": 0.1}}
    with pytest.raises(
        NonFiniteLossError, match=r"epoch \d, step \d: the objective of unit layers\.0 .*the units' rate"
    ):
        train(network(divisive_norm=None), rule(), data(), epochs=3, optimizer=wild)
    with pytest.raises(NonFiniteLossError, match=r"epoch \d, step \d+: the label loss is not finite; lower the head's"):
        train(network(), LastLayer(), data(), epochs=3, batch=10, optimizer={"lr": 1e38, "momentum": 0.9})


def test_bf16_products_come_close_to_fp32():
    full, half = network(widths=(64, 64)), network(widths=(64, 64))
    options = {"epochs": 2, "batch": 50, "optimizer": SGD}
    curves = train(full, rule(), data(200), **options)
    rounded = train(half, rule(), data(200), precision="bf16", **options)
    assert rounded["test_accuracy"][-1] == pytest.approx(curves["test_accuracy"][-1], abs=2)
    assert rounded["train_loss"] == pytest.approx(curves["train_loss"], rel=0.05)
    for name, value in weights(full).items():
        difference = (weights(half)[name] - value).norm() / value.norm()
        assert 0 < difference < 0.05, f"{name} differs by {difference:.2%}"
        assert weights(half)[name].dtype == torch.float32


def test_a_rule_that_cannot_train_the_network_says_so_before_anything_moves():
    net = network()
    before = weights(net)
    with pytest.raises(GroupingError, match="5 groups"):
        train(network(divisive_norm=None), rule(groups=5), data(), epochs=1)
    with pytest.raises(MismatchError, match="divisive norm"):
        train(net, rule(groups=8), data(), epochs=1)
    with pytest.raises(MismatchError, match="divisive norm"):
        train(net, rule(), data(), epochs=1, diagnose=Diagnose(rule(groups=8)))
    with pytest.raises(MismatchError, match=r"no batch can be set apart from a loader .*; give arrays \(x, y\)"):
        train(net, rule(), [tuple(data().train)], epochs=1, diagnose=Diagnose(Backprop()))
    assert same(weights(net), before)


def test_a_rule_that_finds_everything_frozen_says_so():
    net = network()
    net.readout.requires_grad_(False)
    train(net, rule(), data(), epochs=1)
    with pytest.raises(MismatchError, match="LastLayer finds nothing to train: all is frozen"):
        train(net, LastLayer(), data(), epochs=1)
