"""Rules of streams through a Learner: what version 1 does, on any module, and a stream that goes on."""

import copy
import itertools
import math
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from functional.oracles import assert_close
from infohebb import HSICMemory, KernelizedBottleneck, KernelizedBottleneckOnline, Learner
from infohebb.functional.kernels import gaussian_gram, label_gram
from infohebb.functional.working_memory import window_coupling, window_hsic
from infohebb.networks.plain import MLP
from learner.stream_cases import (
    ALL_THAT_KEEP,
    BATCHES,
    CASES,
    CLASSES,
    LABELS,
    MAPS,
    NORM,
    ONLINE,
    SLOTS,
    TANH,
    WINDOWS,
    Case,
    X,
    gradients_of,
    of_torch,
    online,
    stream,
)


@pytest.mark.parametrize("name", CASES)
def test_weights_become_those_of_version_1(name):
    case = CASES[name]
    network, learner = case.pair()[0], case.learner()
    torch.manual_seed(1)
    rule = case.rule()
    rule.attach(network)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (network, learner.model)]
    learned = 0
    for samples, options in stream(case, 6):
        for optimizer in optimizers:
            optimizer.zero_grad()
        seen, step = rule.learn(network, *samples, **options), learner.backward(*samples, **options)
        learned += not step.waiting
        assert step.waiting == seen.waiting
        assert_close(step.loss, seen.loss, 1e-12)
        for unit, terms in step.terms.items():
            before = seen.objectives[unit.replace("layers", "blocks")]
            assert terms.keys() == before.keys()
            for term, value in terms.items():
                assert_close(value, before[term], 1e-12)
        for one, other in zip(learner.model.parameters(), network.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None)
        for optimizer in optimizers:
            optimizer.step()
        if learned == 4:
            break
    assert learned >= 3
    for one, other in zip(learner.model.parameters(), network.parameters(), strict=True):
        assert_close(one.detach(), other.detach(), 1e-12)
    for one, other in zip(learner.model.buffers(), network.buffers(), strict=True):
        assert_close(one if case.stacked == 0 else one.transpose(0, 1), other, 1e-12)
    with torch.no_grad():
        logits = learner.model.eval()(samples[0])
    assert_close(logits if case.stacked == 0 else logits.transpose(0, 1), network(samples[0]).detach(), 1e-12)


class Layer(nn.Module):
    """A Linear and an activation that is a function, and what nobody needs."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weights = nn.Linear(inputs, outputs)

    def forward(self, x):
        z = torch.tanh(self.weights(input=x))
        return {"z": z, "more": x}


class Own(nn.Module):
    """A network with a forward of its own, whose layers return dictionaries."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = Layer(6, 8), Layer(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        z = self.second(self.first(x)["z"])
        return self.out(z["z"] + 0 * z["more"].sum())


USERS = {
    "sequential": (of_torch, {}),
    "own": (Own, {"units": ["first", "second"], "head": "out", "activity": {"*": lambda found: found["z"]}}),
    "nested": (lambda: nn.Sequential(of_torch()[:4], of_torch()[4]), {"units": ["0.0:2", "0.2:4"]}),
}


def assert_same(ones, others, rtol=None):
    """The same gradients after each step: the same bits, if no tolerance is given."""
    assert len(ones) == len(others) > 0
    assert any(gradient is not None and gradient.any() for one in ones for gradient in one)
    for one, other in zip(ones, others, strict=True):
        for gradient, expected in zip(one, other, strict=True):
            assert (gradient is None) == (expected is None)
            if gradient is not None and rtol is None:
                assert torch.equal(gradient, expected)
            elif gradient is not None:
                assert_close(gradient, expected, rtol)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", ["mean activity", "stale"])
def test_networks_of_users_learn_as_ours(user, name):
    case = CASES[name]
    make, told = USERS[user]
    ours, theirs = MLP(6, CLASSES, (8, 8), **TANH).double(), make().double()
    for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
        one.data.copy_(other.data)
    expected = gradients_of(Learner(ours, case.rule()), stream(case, 5))
    assert_same(gradients_of(Learner(theirs, case.rule(), **told), stream(case, 5)), expected, 1e-12)


class Residual(nn.Module):
    """relu(conv(relu(conv(x))) + x)."""

    def __init__(self, channels):
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return torch.relu(self.two(torch.relu(self.one(x))) + x)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.Tanh())
        self.layers = nn.ModuleList([Residual(4), Residual(4)])
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean((2, 3)))


def test_a_residual_network_learns_by_autograds_gradient_of_each_units_objective():
    torch.manual_seed(0)
    model = ResNet().double()
    step = Learner(model, HSICMemory(objective=True), ["stem", "layers.*"], "fc").backward(MAPS[:6], LABELS[:6])
    Q, x = window_coupling(MAPS[:6].flatten(1), LABELS[:6], CLASSES, 2.0, 0.5, 0.1), MAPS[:6]
    for name, unit in {"stem": model.stem, "layers.0": model.layers[0], "layers.1": model.layers[1]}.items():
        z = unit(x)
        rows = torch.cat([z.detach()[:-1], z[-1:]]).flatten(1)
        objective = window_hsic(Q, gaussian_gram(rows, 1.0, "per_sqrt_dim"))
        assert_close(step.terms[name]["objective"], objective.detach(), 1e-12)
        gradients = torch.autograd.grad(objective, list(unit.parameters()))
        for parameter, gradient in zip(unit.parameters(), gradients, strict=True):
            assert_close(parameter.grad, gradient, 1e-10)
        x = z.detach()


@pytest.mark.parametrize(("options", "network"), [({}, NORM), ({}, {}), ({"groups": 4}, {})], ids=str)
def test_over_all_pairs_of_stimuli_it_is_the_batch_rule(options, network):
    torch.manual_seed(0)
    model, x, y = MLP(6, CLASSES, (8, 8), **network, **TANH).double(), X[[0, 1, 3]], LABELS[[0, 1, 3]]
    rule = KernelizedBottleneckOnline(sigma=0.4, gamma=3.0, rate=0.0, **options)
    learner, batch = Learner(model, rule), KernelizedBottleneck(sigma=0.4, gamma=3.0, **options)
    signals = []
    for index in range(3):
        gradients_of(learner, [((x[[index]], y[[index]]), {})])
        signals.append([synapses.circuit.before.clone() for synapses in rule.synapses])
    for synapses, rows in zip(rule.synapses, zip(*signals, strict=True), strict=True):
        synapses.circuit.average.copy_(gaussian_gram(torch.stack(rows), 0.4).mean())
    rule.teaching.average.copy_(label_gram(y, CLASSES, torch.float64).mean())
    rule.teaching.stimuli.fill_(math.inf)
    total = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for pair in itertools.product(range(3), repeat=2):
        two = [((x[[index]], y[[index]]), {}) for index in pair]
        for value, gradient in zip(total, gradients_of(learner, two)[-1], strict=True):
            value += gradient / 9
    (expected,) = gradients_of(Learner(model, batch), [((x, y), {})])
    assert_same([total[:4]], [expected[:4]], 1e-11)


@pytest.mark.parametrize("name", ["two points", "mean activity", "row", "stale", "reservoir", "stacked, leaky"])
def test_the_loss_sent_back_leaves_the_gradients_of_backward(name):
    case = CASES[name]
    learner = case.learner()
    other = copy.deepcopy(learner)
    for samples, options in stream(case, 4):
        learner.zero_grad()
        other.zero_grad()
        step, loss = learner.backward(*samples, **options), other(*samples, **options)
        loss.backward()
        objectives = sum(float(terms["objective"].sum()) for terms in step.terms.values() if "objective" in terms)
        assert_close(loss.detach(), step.loss.sum() + objectives, 1e-12)
        for one, two in zip(learner.parameters(), other.parameters(), strict=True):
            assert (one.grad is None) == (two.grad is None)
            if one.grad is not None:
                assert_close(two.grad, one.grad, 1e-12)
        for key, value in learner.state_dict().items():
            assert torch.equal(value, other.state_dict()[key])
    assert not step.waiting or case.rule().consumes == "sample"


def test_the_loss_of_stacked_networks_is_the_sum_of_theirs():
    case = BATCHES["stacked, batches"]
    learner = case.learner()
    other = copy.deepcopy(learner)
    step, loss = learner.backward(*case.batch(0)), other(*case.batch(0))
    loss.backward()
    assert step.loss.shape == (2,)
    assert step.correct.shape == (SLOTS, 2)
    assert_close(loss.detach(), step.loss.sum() + sum(terms["objective"].sum() for terms in step.terms.values()), 1e-12)
    for one, two in zip(learner.model.parameters(), other.model.parameters(), strict=True):
        assert_close(two.grad, one.grad, 1e-12)


def reloaded(learner, case):
    """A learner made anew, with the state of another."""
    other = case.learner()
    other.load_state_dict(learner.state_dict())
    return other


@pytest.mark.parametrize("name", ALL_THAT_KEEP)
def test_copies_pickles_and_saved_states_continue_with_the_same_bits(name):
    case = CASES[name]
    samples = stream(case, 6)
    learner = case.learner()
    gradients_of(learner, samples[:7])
    others = [copy.deepcopy(learner), pickle.loads(pickle.dumps(learner)), reloaded(learner, case)]  # noqa: S301
    expected = gradients_of(learner, samples[7:])
    for other in others:
        assert_same(gradients_of(other, samples[7:]), expected)


@pytest.mark.parametrize("name", ["trace", "eligibility, plain", "stale", "reservoir"])
def test_the_stream_goes_on_in_a_unit_while_that_is_frozen(name):
    case = CASES[name]
    learner = case.learner()
    other, samples = copy.deepcopy(learner), stream(case, 7)[::2]
    gradients_of(learner, samples[:4])
    weight = next(other.model.parameters()).requires_grad_(False)
    frozen = gradients_of(other, samples[:4])
    assert all(gradients[0] is None for gradients in frozen)
    weight.requires_grad_()
    assert_same(gradients_of(other, samples[4:]), gradients_of(learner, samples[4:]))


def test_a_rule_that_is_given_other_units_starts_anew():
    model, rule = of_torch().double(), online()
    gradients_of(Learner(model, rule, "0:2", ["2", "4"]), stream(ONLINE["two points"], 2))
    model[0].requires_grad_(False)
    learner = Learner(model, rule, "2:4", "4")
    assert rule.synapses[0].pre.shape == (8,)
    assert learner.backward(*ONLINE["two points"].batch(2)).waiting


def test_gradients_of_pruned_weights_are_zero():
    model = of_torch().double()
    prune.random_unstructured(model[0], "weight", 0.5)
    gradients_of(Learner(model, online()), stream(ONLINE["two points"], 3)[::2])
    pruned = model[0].weight_mask == 0
    assert not model[0].weight_orig.grad[pruned].any()
    assert model[0].weight_orig.grad[~pruned].all()


class Adds(nn.Module):
    """tanh(W x + what the layer below kept of itself)."""

    def __init__(self, below=None, *, detached=False):
        super().__init__()
        self.weights, self.below, self.detached, self.kept = nn.Linear(6, 6), [below], detached, torch.zeros(())

    def forward(self, x):
        (below,), a = self.below, self.weights(x)
        self.kept = a.detach() if self.detached else a
        return torch.tanh(a if below is None else a + below.kept)


def test_a_slope_is_that_of_the_units_own_neurons_where_another_unit_keeps_a_feature():
    found = []
    for detached in (True, False):
        torch.manual_seed(0)
        first = Adds(detached=detached)
        model = nn.Sequential(first, Adds(first), nn.Linear(6, CLASSES)).double()
        found.append(gradients_of(Learner(model, online(), ["0", "1"]), stream(ONLINE["two points"], 3)[::2]))
    assert_same(*found)


def test_arithmetic_is_in_single_precision_under_autocast():
    for case in (Case(partial(online, "trace"), NORM | TANH), WINDOWS["stale"]):
        learner = case.learner().float()
        other = copy.deepcopy(learner)
        samples = [((x.float(), y), options) for (x, y), options in stream(case, 5)[::2]]
        with torch.autocast("cpu", torch.bfloat16):
            rounded = gradients_of(learner, samples)
        for one, expected in zip(rounded[-1], gradients_of(other, samples)[-1], strict=True):
            assert one.dtype == torch.float32
            assert_close(one, expected, 0.2)


def test_a_record_holds_the_factors_of_rows_and_the_remembered_input_of_the_head():
    learner = ONLINE["mean activity"].learner()
    for samples, _ in stream(ONLINE["mean activity"], 3)[::2]:
        learner.zero_grad()
        learner.backward(*samples)
    before = copy.deepcopy(learner)
    record = learner.record(*ONLINE["mean activity"].batch(3))["layers.0.activity.linear"]
    assert (record.output, record.bias, record.unit) == (None, False, "layers.0")
    assert_close(record.third_factor * record.post, record.error, 1e-14)
    for key, value in learner.state_dict().items():
        assert torch.equal(value, before.state_dict()[key])
    learner = WINDOWS["stale"].learner()
    gradients_of(learner, stream(WINDOWS["stale"], 4)[::2])
    record = learner.record(*WINDOWS["stale"].batch(4))["readout"]
    assert (record.input.shape, record.error.shape) == ((SLOTS, 8), (SLOTS, CLASSES))
