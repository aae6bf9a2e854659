"""Diagnosis: angles to backprop against autograd, on copies alone, and the same curves after an interruption."""

import json
import math

import pytest
import torch
from torch import nn
from training_toys import Diary, Untouchable, data, network, rule, same, weights

from infohebb import Backprop, ConvNet, KernelizedBottleneck, LastLayer, train
from infohebb.data import DataSet, random_like
from infohebb.errors import MismatchError
from infohebb.training import Checkpoints, Diagnose
from infohebb.training.checkpoint import read_config
from infohebb.training.diagnose import gradients, prepare_alignment
from infohebb.training.sources import as_source

LAYERS = ["block1", "block2", "readout"]
WILD = {"dropout": 0.3, "norm": "batch"}  # random numbers and running averages, which must stay as they were


class Restless(KernelizedBottleneck):
    """Draws random numbers, counts its calls in a buffer, and turns its gradients round in `finish`."""

    def attach(self, network):
        super().attach(network)
        self.register_buffer("calls", torch.zeros(()))

    def learn(self, network, inputs, targets, *, onset=True, record=False):
        self.calls += 1
        seen = super().learn(network, inputs, targets, onset=onset, record=record)
        for parameter in network.parameters():
            parameter.grad += 1e-3 * self.calls * torch.rand_like(parameter)
        return seen

    def finish(self, parameters):
        for parameter in parameters:
            parameter.grad.neg_()


def go(make=rule, epochs=4, diagnose=None, folder=None, source=None, **options):
    """Train a small wild network: everything that one can see of it afterwards."""
    net, learning = network(**{**WILD, **options}), make()
    kept = Checkpoints(folder) if folder else None
    settings = {"epochs": epochs, "batch": 20, "checkpoints": kept, "diagnose": diagnose}
    optimizer = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    curves = train(net, learning, data() if source is None else source, optimizer=optimizer, **settings)
    del curves["seconds"]
    return net, learning, curves


def by_autograd(net, inputs, targets):
    """The cross-entropy's gradient by the network's own forward, layer by layer."""
    wanted = [*(block.weight for block in net.blocks), net.readout.weight]
    return torch.autograd.grad(nn.functional.cross_entropy(net(inputs), targets), wanted)


def degrees(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return math.degrees(math.acos(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))))


@pytest.mark.parametrize("options", [{"divisive_norm": None}, {}, {"nonlinearity": "tanh", "bias": True}])
def test_angles_and_ratios_are_those_of_an_independent_autograd(options):
    net, dataset = network(**options), data()
    inputs, targets = as_source(dataset, 20, torch.device("cpu")).sample()
    errors = by_autograd(net, inputs, targets)
    learning = KernelizedBottleneck()
    learning.attach(net)
    learning.learn(net, inputs, targets)
    own = [net.get_parameter(name).grad.clone() for name in ("blocks.0.weight", "blocks.1.weight", "readout.weight")]
    asked = {"epochs": 1, "batch": 20, "diagnose": Diagnose(Backprop())}
    found = train(network(**options), KernelizedBottleneck(), dataset, **asked)
    assert list(found["alignment"]["angle"]) == LAYERS
    for layer, a, b in zip(LAYERS, own, errors, strict=True):
        angle, ratio = (found["alignment"][name][layer][0] for name in ("angle", "norm_ratio"))
        assert angle == pytest.approx(degrees(a, b), abs=0.02 if layer == "readout" else 1e-3)
        assert ratio == pytest.approx(float(a.norm() / b.norm()), rel=1e-4)
    assert found["alignment"]["angle"]["readout"][0] < 0.01, "the readout's delta rule is backprop's"
    assert all(5 < found["alignment"]["angle"][layer][0] < 175 for layer in LAYERS[:2])


def test_after_an_epoch_the_weights_of_then_are_measured():
    net, dataset = network(), data()
    learning = rule()
    found = train(net, learning, dataset, epochs=3, batch=20, diagnose=Diagnose(Backprop()))["alignment"]
    inputs, targets = as_source(dataset, 20, torch.device("cpu")).sample()
    errors = by_autograd(net, inputs, targets)
    learning.learn(net, inputs, targets)
    assert found["angle"]["block1"][-1] == pytest.approx(degrees(net.blocks[0].weight.grad, errors[0]), abs=1e-3)
    assert found["angle"]["block1"][0] != found["angle"]["block1"][-1]


@pytest.mark.parametrize("options", [WILD, {**WILD, "norm": "layer", "nonlinearity": "selu"}])
def test_backprop_is_its_own_reference_under_the_same_dropout(options):
    _, _, curves = go(Backprop, diagnose=Diagnose(Backprop()), **options)
    for layer in LAYERS:
        assert curves["alignment"]["angle"][layer] == pytest.approx([0] * 5, abs=1e-4)
        assert curves["alignment"]["norm_ratio"][layer] == pytest.approx([1] * 5, rel=1e-6)


@pytest.mark.parametrize("make", [KernelizedBottleneck, Backprop, LastLayer, Restless])
def test_a_diagnosed_training_learns_the_same_bits(make):
    torch.manual_seed(3)
    plain, own, curves = go(make)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    diagnosed, watched, found = go(make, diagnose=Diagnose(Backprop()))
    assert torch.equal(torch.rand(4), drawn)
    assert found.pop("alignment")["epoch"] == [0, 1, 2, 3, 4]
    assert found == curves
    assert same(weights(diagnosed), weights(plain))
    assert same(weights(watched), weights(own))
    for one, other in zip(diagnosed.parameters(), plain.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)


def test_without_a_seed_the_callers_stream_is_not_drawn_from():
    def losses(**options):
        torch.manual_seed(7)
        return train(network(**WILD), rule(), data(), epochs=2, batch=20, seed=None, **options)["train_loss"]

    assert losses(diagnose=Diagnose(Backprop())) == losses()


def test_measuring_moves_nothing():
    net, learning, pair = network(**WILD), Restless(), as_source(data(), 20, torch.device("cpu")).sample()
    learning.attach(net)
    learning.learn(net, *pair)
    before, own, drawn = weights(net), weights(learning), torch.get_rng_state()
    left = [parameter.grad.clone() for parameter in net.parameters()]
    reference = Restless()
    first = prepare_alignment(Diagnose(reference), net, learning, pair).measure()
    assert same(weights(net), before)
    assert same(weights(learning), own)
    assert weights(reference) == {}
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(p.grad, grad) for p, grad in zip(net.parameters(), left, strict=True))
    torch.rand(3)
    assert prepare_alignment(Diagnose(reference), net, learning, pair).measure() == first


def test_a_rule_that_keeps_its_network_is_copied_with_it():
    class Keeper(LastLayer):
        def attach(self, network):
            super().attach(network)
            self.__dict__["kept"] = network

        def learn(self, network, *batch, **options):
            assert self.kept is network
            return super().learn(network, *batch, **options)

    go(Keeper, diagnose=Diagnose(Keeper()))


def test_gradients_are_those_before_finish():
    net, pair = network(), as_source(data(), 20, torch.device("cpu")).sample()
    learning = Restless()
    learning.attach(net)
    found = gradients(net, learning, pair)
    assert list(found) == LAYERS
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learning.learn(net, *pair)
    assert torch.equal(found["block1"], net.blocks[0].weight.grad)


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4]), (5, [0, 5]), (9, [0])])
def test_every_counts_epochs_from_before_learning(every, epochs):
    _, _, curves = go(epochs=5, diagnose=Diagnose(Backprop(), every))
    assert curves["alignment"]["epoch"] == epochs
    lines = [line for name in ("angle", "norm_ratio") for line in curves["alignment"][name].values()]
    assert [len(line) for line in lines] == [len(epochs)] * 6


def test_layers_that_do_not_learn_are_null_and_all_is_json():
    _, _, curves = go(LastLayer, diagnose=Diagnose(Backprop(), 2))
    found = json.loads(json.dumps(curves["alignment"], allow_nan=False))
    assert found["angle"]["block1"] == found["norm_ratio"]["block2"] == [None] * 3
    assert found["angle"]["readout"] == pytest.approx([0] * 3, abs=1e-3)


def test_a_gradient_of_zero_has_no_angle_and_its_ratio_is_zero():
    class Idle(Backprop):
        def learn(self, network, *batch, **options):
            seen = super().learn(network, *batch, **options)
            network.blocks[0].weight.grad.zero_()
            return seen

    for own, other, ratio in ((Idle, Backprop, 0.0), (Backprop, Idle, None)):
        _, _, curves = go(own, epochs=1, diagnose=Diagnose(other()))
        assert curves["alignment"]["angle"]["block1"] == [None, None]
        assert curves["alignment"]["norm_ratio"]["block1"] == [ratio, ratio]
        json.dumps(curves, allow_nan=False)


def test_frozen_layers_are_null():
    net = network()
    net.blocks[0].weight.requires_grad_(False)
    found = train(net, rule(), data(), epochs=1, diagnose=Diagnose(Backprop()))["alignment"]["angle"]
    assert found["block1"] == [None, None]
    assert None not in found["block2"]


def test_the_rules_own_updates_are_no_part_of_the_diary():
    diary = Diary()
    train(network(), diary, data(), epochs=2, batch=20, diagnose=Diagnose(Backprop()))
    assert [event[0] for event in diary.events] == ["learn", "finish"] * 6


def test_the_batch_is_fixed_not_augmented_and_of_every_class():
    split = data(60).train
    order = split.targets.argsort(stable=True)
    flipped = DataSet("sorted", split.select(order), None, 2, augment=lambda x: -x)
    source = as_source(flipped, 20, torch.device("cpu"), torch.float64)
    inputs, targets = source.sample()
    assert inputs.dtype == torch.float64
    assert len(targets) == 20
    assert set(targets.tolist()) == {0, 1}
    rows = {tuple(row) for row in split.inputs.double().tolist()}
    assert all(tuple(row) in rows for row in inputs.tolist())
    assert torch.equal(source.sample()[0], inputs)


def test_validation_is_diagnosed_on_what_it_trains_on():
    untouchable = Untouchable(torch.zeros(1, 8), torch.zeros(1).long())
    poisoned = DataSet("poisoned", data().train, untouchable, 2)
    options = {"epochs": 1, "batch": 20, "held_out": "validation", "diagnose": Diagnose(Backprop())}
    assert train(network(), rule(), poisoned, **options)["alignment"]["epoch"] == [0, 1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_convolutions_are_layers_too(precision):
    images = random_like((1, 8, 8), 3, 20)
    net = ConvNet((1, 8, 8), 3, (4, 4), (2,), (16,), divisive_norm={"groups": 2}, dropout=0.1)
    options = {"epochs": 1, "batch": 10, "precision": precision, "optimizer": {"lr": 0.01}}
    angles = train(net, Backprop(), images, diagnose=Diagnose(Backprop()), **options)["alignment"]["angle"]
    assert list(angles) == ["block1", "block2", "block3", "readout"]
    assert all(line == pytest.approx([0, 0], abs=1e-4) for line in angles.values())
    assert train(net, rule(), images, diagnose=Diagnose(Backprop()), **options)["alignment"]["angle"]["block1"][0] > 5


def test_the_seconds_of_an_epoch_are_those_of_learning(monkeypatch):
    now = [0.0]

    class Slow(Backprop):
        def learn(self, network, *batch, **options):
            now[0] += 1000
            return super().learn(network, *batch, **options)

    monkeypatch.setattr("infohebb.training.epoch.time.perf_counter", lambda: now[0])
    curves = train(network(), rule(), data(), epochs=2, diagnose=Diagnose(Slow()), progress=False)
    assert now == [3000]
    assert curves["seconds"] == [0, 0]


class PowerFailureError(Exception):
    """The power fails."""


def crash_in(epoch, source):
    """The data, that end in the midst of an epoch of that number."""
    count = iter(range(1, 100))

    def augment(inputs):
        if next(count) == 3 * epoch - 1:
            raise PowerFailureError
        return inputs

    return DataSet(source.name, source.train, source.test, source.classes, augment=augment)


def test_an_interrupted_run_has_the_same_curves(tmp_path):
    _, _, whole = go(diagnose=Diagnose(Backprop(), 2))
    with pytest.raises(PowerFailureError):
        go(diagnose=Diagnose(Backprop(), 2), folder=tmp_path, source=crash_in(4, data()))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0003"]
    _, _, resumed = go(diagnose=Diagnose(Backprop(), 2), folder=tmp_path)
    assert resumed == whole
    assert resumed["alignment"]["epoch"] == [0, 2, 4]


def test_diagnosing_otherwise_goes_on_from_the_same_checkpoint(tmp_path):
    net, _, whole = go(epochs=4)
    go(epochs=1, folder=tmp_path)
    config = read_config(tmp_path)
    _, _, curves = go(epochs=2, folder=tmp_path, diagnose=Diagnose(Backprop()))
    assert curves["alignment"]["epoch"] == [2]
    assert read_config(tmp_path) == config
    again, _, curves = go(epochs=4, folder=tmp_path, diagnose=Diagnose(Backprop(), 4))
    assert curves.pop("alignment")["epoch"] == [2, 4]
    assert curves == whole
    assert same(weights(again), weights(net))


def test_any_rule_may_be_the_reference():
    _, _, curves = go(diagnose=Diagnose(rule()), dropout=0.0)
    assert curves["alignment"]["angle"]["block2"] == [0.0] * 5
    _, _, curves = go(diagnose=Diagnose(LastLayer()))
    assert curves["alignment"]["angle"]["block1"] == [None] * 5


def test_what_cannot_be_diagnosed_is_named_before_anything_moves():
    net = network()
    before = weights(net)
    with pytest.raises(MismatchError, match=r"loader has no batch to set apart for diagnose; give arrays \(x, y\)"):
        train(net, rule(), [tuple(data().train)], epochs=1, diagnose=Diagnose(Backprop()))
    with pytest.raises(MismatchError, match="divisive norm"):
        train(net, rule(), data(), epochs=1, diagnose=Diagnose(rule(groups=8)))
    assert same(weights(net), before)
    with pytest.raises(MismatchError, match="layers of a Layered network, not of a Linear"):
        prepare_alignment(Diagnose(Backprop()), nn.Linear(8, 2), rule(), tuple(data().train))
