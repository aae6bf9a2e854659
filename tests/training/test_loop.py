"""The loop: order of the training step, curves, what is held out, and what stops it."""

import math

import pytest
import torch
from training_toys import Diary, Untouchable, data, network, rule, same, weights

from infohebb import Backprop, KernelizedBottleneck, LastLayer, train
from infohebb.data import DataSet, Split, from_arrays
from infohebb.errors import GroupingError, MismatchError, NonFiniteLossError, WrongTypeError

SGD = {"name": "sgd", "lr": {"local": 1.0, "readout": 0.05}, "momentum": 0.9}


def test_the_training_step_is_zero_grad_learn_finish_step():
    net, diary = network(), Diary()
    start = net.readout.bias.detach().clone()
    batches = [(torch.ones(4, 8) * i, torch.zeros(4, dtype=torch.long)) for i in range(3)]
    train(net, diary, batches, epochs=2, optimizer={"name": "sgd", "lr": 0.1})
    assert [event[0] for event in diary.events] == ["learn", "finish"] * 6
    for step, (learn, finish) in enumerate(zip(diary.events[::2], diary.events[1::2], strict=True)):
        assert learn[1], "gradients of the last step are still there"
        assert torch.equal(finish[2], torch.ones(2)), "finish is given the parameters that learn, gradients filled"
        torch.testing.assert_close(learn[2], start - 0.2 * step)  # finish doubled the gradient before the step
    torch.testing.assert_close(net.readout.bias.detach(), start - 1.2)


def test_curves_weigh_batches_by_their_samples():
    inputs = torch.arange(10.0).view(10, 1).expand(10, 8) ** 2
    curves = train(network(), Diary(), (inputs, torch.tensor([0, 1] * 5)), epochs=3, batch=4, seed=1)
    assert curves["train_loss"] == pytest.approx([inputs.mean().item()] * 3)
    assert curves["train_accuracy"] == pytest.approx([50.0] * 3)  # 2 of 4, 2 of 4, 1 of 2


def test_curves_hold_every_epoch():
    net, dataset = network(), data()
    gamma = 2.0
    curves = train(net, rule(gamma=gamma), dataset, epochs=3, batch=25, optimizer=SGD, milestones=[1, 2], factor=0.5)
    assert set(curves) == {
        "epoch", "samples", "train_loss", "train_accuracy", "test_accuracy", "seconds", "learning_rate", "objective"
    }  # fmt: skip
    assert curves["samples"] == [60, 120, 180]
    assert curves["epoch"] == [1, 2, 3]
    assert all(len(curves[name]) == 3 for name in ("train_loss", "train_accuracy", "test_accuracy", "seconds"))
    assert curves["learning_rate"] == {"local": [1.0, 0.5, 0.25], "readout": [0.05, 0.025, 0.0125]}
    assert list(curves["objective"]) == ["block1", "block2"]
    for lines in curves["objective"].values():
        assert {name: len(line) for name, line in lines.items()} == dict.fromkeys(
            ("objective", "compression", "relevance"), 3
        )
        combined = [c - gamma * r for c, r in zip(lines["compression"], lines["relevance"], strict=True)]
        assert lines["objective"] == pytest.approx(combined, rel=1e-4, abs=1e-8)
    right = sum(int(net(one[None]).argmax() == label) for one, label in zip(*dataset.test, strict=True))
    assert curves["test_accuracy"][-1] == pytest.approx(100 * right / 60)
    assert all(seconds > 0 for seconds in curves["seconds"])


def test_rates_follow_milestones_powers_and_steps():
    net, diary = network(), Diary()
    batches = [(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))] * 4
    schedule = {"milestones": [2], "factor": 0.5, "powers": [[2, 0.9], [4, 0.8]], "factor_every": 6}
    curves = train(net, diary, batches, epochs=5, optimizer={"name": "sgd", "lr": 0.25}, **schedule)
    biases = [event[2] for event in diary.events if event[0] == "learn"] + [net.readout.bias.detach()]
    wanted = []
    for step in range(20):
        epoch = 1 + step // 4
        power = [1.0, 0.9, 0.9**2, 0.8**3, 0.8**4][epoch - 1]
        wanted.append(0.25 * power * 0.5 ** (step // 6) * (0.5 if epoch > 2 else 1.0))
    for rate, before, after in zip(wanted, biases[:-1], biases[1:], strict=True):
        torch.testing.assert_close(before - after, torch.full((2,), 2 * rate), rtol=1e-5, atol=1e-6)
    assert curves["learning_rate"] == {"readout": pytest.approx(wanted[::4], rel=1e-12)}


def test_never_is_said_by_none_and_by_zero():
    for never in (None, 0):
        curves = train(network(), Diary(), data(), epochs=2, batch=10, factor_every=never)
        assert curves["learning_rate"] == {"readout": [0.1, 0.1]}


def test_a_list_of_rates_has_a_curve_for_each_parameter():
    options = {"name": "sgd", "lr": {"local": [1.0, 0.5], "readout": 0.05}}
    curves = train(network(), rule(), data(), epochs=2, batch=25, optimizer=options, milestones=[1], factor=0.5)
    assert curves["learning_rate"] == {"local.1": [1.0, 0.5], "local.2": [0.5, 0.25], "readout": [0.05, 0.025]}


def test_groups_of_a_user_s_own_optimizer_go_by_their_position_or_kind():
    net, learning = network(), rule()
    learning.attach(net)
    groups = learning.groups(net)
    tables = [{"params": groups["local"]}, {"params": groups["readout"], "kind": "last", "lr": 0.5}]
    curves = train(net, learning, data(), epochs=1, optimizer=torch.optim.SGD(tables, lr=0.25))
    assert curves["learning_rate"] == {"group0": [0.25], "last": [0.5]}


def test_rules_without_local_objectives_have_no_curves_of_them():
    curves = train(network(), Backprop(), data(), epochs=1)
    assert curves["objective"] == {}
    assert list(curves["learning_rate"]) == ["readout"]


@pytest.mark.parametrize("make", [KernelizedBottleneck, Backprop, LastLayer])
def test_each_rule_learns_blobs(make):
    lr = {"local": 1.0, "readout": 0.1} if make is KernelizedBottleneck else 0.1
    curves = train(network(), make(), data(200), epochs=5, batch=20, optimizer={"lr": lr, "momentum": 0.9})
    assert curves["test_accuracy"][-1] > 90
    assert curves["train_loss"][-1] < curves["train_loss"][0]


def test_only_what_the_rule_names_learns():
    net = network()
    before = weights(net)
    train(net, LastLayer(), data(), epochs=1)
    moved = {name for name, value in weights(net).items() if not torch.equal(value, before[name])}
    assert moved == {"readout.weight", "readout.bias"}


def test_continuous_targets_are_scored_by_their_mean_squared_error():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(120, 8, generator=generator)
    targets = torch.stack([inputs[:, 0] + inputs[:, 1], inputs[:, 2]], 1)
    net = network()
    pieces = (inputs[:80], targets[:80], inputs[80:], targets[80:])
    curves = train(net, rule(), pieces, epochs=15, batch=20, optimizer={"name": "adam", "lr": 0.01})
    assert not {"train_accuracy", "test_accuracy"} & curves.keys()
    assert curves["test_error"][-1] == pytest.approx((net(inputs[80:]) - targets[80:]).square().mean().item(), rel=1e-5)
    assert curves["test_error"][-1] < 0.7 * curves["test_error"][0]


def poisoned(samples=60):
    return DataSet("poisoned", data(samples).train, Untouchable(torch.zeros(1, 8), torch.zeros(1).long()), 2)


def test_validation_never_reads_the_test_set():
    curves = train(network(), rule(), poisoned(), epochs=2, held_out="validation")
    assert len(curves["validation_accuracy"]) == 2
    assert "test_accuracy" not in curves
    with pytest.raises(AssertionError, match="test split was read"):
        train(network(), rule(), poisoned(), epochs=1)


def test_validation_holds_out_a_tenth_of_arrays_and_drops_their_test_set():
    split = data(50).train
    wrong = (split.inputs, 1 - split.targets)
    tested, curves = network(), train(network(), rule(), (*split, *wrong), epochs=1, held_out="validation", batch=5)
    assert set(curves) & {"test_accuracy", "validation_accuracy"} == {"validation_accuracy"}
    alone = network()
    curves_alone = train(alone, rule(), from_arrays(*split), epochs=1, held_out="validation", batch=5)
    assert curves["validation_accuracy"] == curves_alone["validation_accuracy"]
    assert curves["validation_accuracy"][0] * 5 / 100 == pytest.approx(round(curves["validation_accuracy"][0] / 20))
    train(tested, rule(), (*split, *wrong), epochs=1, batch=5)
    assert not same(weights(tested), weights(alone)), "training saw the samples held out"


def test_validation_needs_a_set_that_can_be_split():
    split = data().train
    with pytest.raises(MismatchError, match="validation"):
        train(network(), rule(), [tuple(split)], epochs=1, held_out="validation")


def test_an_objective_that_explodes_names_its_block():
    with pytest.raises(NonFiniteLossError, match=r"objective of blocks\.0 .*lower optimizer\.lr\.local"):
        train(network(divisive_norm=None), rule(), data(), epochs=3, optimizer={"lr": {"local": 1e30, "readout": 0.1}})


def test_a_loss_that_explodes_names_the_readout():
    with pytest.raises(NonFiniteLossError, match="readout's loss"):
        train(network(), LastLayer(), data(), epochs=3, batch=10, optimizer={"lr": 1e38, "momentum": 0.9})


def test_bf16_products_come_close_to_fp32():
    full, half = network(widths=(64, 64)), network(widths=(64, 64))  # oneDNN leaves small products as they are
    options = {"epochs": 2, "batch": 50, "optimizer": SGD}
    curves = train(full, rule(), data(200), **options)
    rounded = train(half, rule(), data(200), precision="bf16", **options)
    assert rounded["test_accuracy"][-1] == pytest.approx(curves["test_accuracy"][-1], abs=2)
    assert rounded["train_loss"] == pytest.approx(curves["train_loss"], rel=0.05)
    for name, value in weights(full).items():
        difference = (weights(half)[name] - value).norm() / value.norm()
        assert 0 < difference < 0.05, f"{name} differs by {difference:.2%}"
        assert weights(half)[name].dtype == torch.float32


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (WrongTypeError, r"training\.epochs = 0", {"epochs": 0}),
        (WrongTypeError, r"training\.factor = 0", {"factor": 0.0}),
        (WrongTypeError, r"training\.factor = nan", {"factor": math.nan}),
        (WrongTypeError, r"seed = \d+: give a whole number of 64 bits, or None", {"seed": 2**64}),
        (MismatchError, "device 'abacus'", {"device": "abacus"}),
    ],
)
def test_settings_that_make_no_sense_are_named(error, words, options):
    with pytest.raises(error, match=words):
        train(network(), rule(), data(), **{"epochs": 1, **options})


def test_a_rule_that_cannot_train_the_network_says_so_before_anything_moves():
    net = network()
    before = weights(net)
    with pytest.raises(GroupingError, match="5 groups"):
        train(network(divisive_norm=None), rule(groups=5), data(), epochs=1)
    with pytest.raises(MismatchError, match="divisive norm"):
        train(net, rule(groups=8), data(), epochs=1)
    with pytest.raises(MismatchError, match="trains a Layered"):
        train(torch.nn.Linear(8, 2), Diary(), data(), epochs=1)
    assert same(weights(net), before)


def test_a_rule_that_finds_everything_frozen_says_so():
    net = network()
    net.readout.requires_grad_(False)
    train(net, rule(), data(), epochs=1)
    with pytest.raises(MismatchError, match="LastLayer finds nothing to train here: all is frozen"):
        train(net, LastLayer(), data(), epochs=1)


def test_the_last_incomplete_batch_is_kept():
    diary = Diary()
    train(network(), diary, (torch.randn(10, 8), torch.tensor([0, 1] * 5)), epochs=1, batch=4)
    assert sorted(len(event[3]) for event in diary.events if event[0] == "learn") == [2, 4, 4]
    assert isinstance(data().train, Split)
