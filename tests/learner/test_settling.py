"""Rules of settling networks by a Learner: held against version 1, their roles, records and loss, what is refused."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from infohebb import (
    Backprop,
    ContrastiveSimilarityMatching,
    CorInfoMax,
    CorInfoMaxNetwork,
    EquilibriumNetwork,
    EquilibriumPropagation,
    Learner,
    PredictiveCoding,
    PredictiveCodingNetwork,
    PredictiveCodingNudge,
    Step,
)
from infohebb.errors import DivergenceError, EmptyBatchError, LabelError, MismatchError, NonFiniteDataError
from infohebb.rules import contract
from infohebb.testing import certify
from learner.nets import gradients, largest_difference

compartmental = partial(CorInfoMaxNetwork, 6, 3, (5, 4), entropy_gain=0.02)
sparse = partial(compartmental, sparse=(1, 3), multiplier_rates=(0.1, 0.05))
equilibrium, lateral = (
    partial(EquilibriumNetwork, 6, 3, (5, 4)),
    partial(EquilibriumNetwork, 6, 3, (5, 4), lateral=True),
)
predictive = partial(PredictiveCodingNetwork, 6, 3, (5, 4))
CASES = {
    "CorInfoMax": (compartmental, CorInfoMax),
    "CorInfoMax, three phases": (sparse, partial(CorInfoMax, phases=3, recursion="exact", forgetting=0.9)),
    "EquilibriumPropagation": (equilibrium, EquilibriumPropagation),
    "EquilibriumPropagation, lateral": (lateral, EquilibriumPropagation),
    "ContrastiveSimilarityMatching": (lateral, ContrastiveSimilarityMatching),
    "PredictiveCoding": (predictive, PredictiveCoding),
    "PredictiveCodingNudge": (
        partial(predictive, nonlinearity="relu"),
        partial(PredictiveCodingNudge, nudge=0.01, random_sign=True),
    ),
}
X, LABELS = torch.rand(8, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64), torch.arange(8) % 3
NUMBERS = torch.rand(8, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
each_rule = pytest.mark.parametrize("name", CASES)


def network_and_rule(name):
    torch.manual_seed(0)
    make, rule = CASES[name]
    return make().double(), rule()


def make_learner(name):
    return Learner(*network_and_rule(name))


@pytest.mark.parametrize("targets", [LABELS, NUMBERS], ids=["labels", "numbers"])
@each_rule
def test_three_steps_are_those_of_version_1(name, targets):
    """Weights and inverse correlations to 1e-12; loss, answers, and what is drawn from torch's generator to the bit."""
    network, rule = network_and_rule(name)
    old, other = copy.deepcopy((network, rule))
    other.attach(old)
    learner = Learner(network, rule)
    steppers = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (old, network)]
    for seed in range(3):
        for stepper in steppers:
            stepper.zero_grad()
        torch.manual_seed(seed)
        seen, drawn = other.learn(old, X, targets), torch.rand(1)
        torch.manual_seed(seed)
        step = learner.backward(X, targets)
        assert torch.equal(torch.rand(1), drawn)
        assert torch.equal(step.loss, seen.loss)
        assert seen.correct is None if step.correct is None else torch.equal(step.correct, seen.correct)
        for stepper in steppers:
            stepper.step()
    for (key, one), two in zip(old.state_dict().items(), network.state_dict().values(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-12, atol=1e-12, msg=key)
    assert not torch.equal(network(X), make_learner(name).model(X))


@each_rule
def test_the_loss_is_that_of_the_step_and_leaves_its_gradients(name):
    direct, through_loss = make_learner(name), make_learner(name)
    torch.manual_seed(1)
    step = direct.backward(X, LABELS)
    torch.manual_seed(1)
    loss = through_loss(X, LABELS)
    loss.backward()
    assert torch.equal(loss.detach(), step.loss)
    assert torch.equal(step.loss, (step.logits - torch.eye(3, dtype=X.dtype)[LABELS]).square().mean())
    assert not step.terms
    assert largest_difference(gradients(through_loss), gradients(direct)) <= 1e-15
    for one, other in zip(direct.buffers(), through_loss.buffers(), strict=True):
        assert torch.equal(one, other)


@each_rule
def test_a_record_holds_what_gradients_are_made_of_and_changes_nothing(name):
    learner = make_learner(name)
    torch.manual_seed(4)
    before, drawn = {key: value.clone() for key, value in learner.state_dict().items()}, torch.get_rng_state()
    records = learner.record(X, LABELS)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())
    assert not gradients(learner)
    learner.backward(X, LABELS)
    found = {}
    for layer, record in records.items():
        assert (record.unit, record.local, record.output) == (None, None, None)
        found[f"model.{layer}.weight"] = record.error.T @ record.input
        if getattr(learner.model.get_submodule(layer), "bias", None) is not None:
            found[f"model.{layer}.bias"] = record.error.sum(0)
    assert largest_difference(found, gradients(learner)) <= 1e-12


def test_a_first_layer_receives_the_input_once_and_others_both_phases():
    records = make_learner("CorInfoMax").record(X, LABELS)
    rows = {layer: len(record.input) for layer, record in records.items()}
    assert rows == {
        "layers.0.feedforward": 8,
        **{f"layers.{k}.feedforward": 16 for k in (1, 2)},
        **{f"layers.{k}.feedback": 16 for k in (0, 1)},
    }
    assert torch.equal(records["layers.0.feedforward"].input, X)


ROLES = {
    "CorInfoMax": {"forward": [(5, 6), (4, 5), (3, 4)], "feedback": [(5, 4), (4, 3)]},
    "EquilibriumPropagation, lateral": {"forward": [(5, 6), (4, 5), (3, 4)], "bias": [(5,), (4,), (3,)]},
    "ContrastiveSimilarityMatching": {
        "forward": [(5, 6), (4, 5), (3, 4)],
        "bias": [(5,), (4,), (3,)],
        "lateral": [(5, 5), (4, 4)],
    },
    "PredictiveCoding": {"forward": [(5, 6), (4, 5), (3, 4)], "bias": [(5,), (4,), (3,)]},
    "PredictiveCodingNudge": {"forward": [(5, 6), (4, 5), (3, 4)], "bias": [(5,), (4,), (3,)]},
}


@pytest.mark.parametrize("name", ROLES)
def test_rates_are_by_role_and_layer(name):
    learner = make_learner(name)
    together = {group["role"]: [tuple(p.shape) for p in group["params"]] for group in learner.param_groups()}
    assert together == ROLES[name]
    rates = {role: [0.1 * (place + 1) for place in range(len(shapes))] for role, shapes in ROLES[name].items()}
    found = {group["role"]: (tuple(group["params"][0].shape), group["lr"]) for group in learner.param_groups(**rates)}
    assert found == {
        f"{role}.{place}": (shape, rates[role][place])
        for role, shapes in ROLES[name].items()
        for place, shape in enumerate(shapes)
    }


def test_rates_that_fit_no_role_or_layer_are_refused_and_frozen_weights_left_out():
    learner = make_learner("CorInfoMax")
    for rates, words in {
        ("forward", (1.0, 0.7)): "forward: 2 values for 3 layers; give one for each, or one number",
        ("units", 0.1): "unknown role or parameter 'units'; roles are forward, feedback and rule; else give a name or",
        ("bias", 0.1): "unknown role or parameter 'bias'; roles are forward, feedback",
    }.items():
        with pytest.raises(Exception, match=words):
            learner.param_groups(**dict([rates]))
    one_layer = Learner(CorInfoMaxNetwork(6, 3, ()), CorInfoMax())
    with pytest.raises(Exception, match="unknown role or parameter 'feedback'; roles are forward and rule"):
        one_layer.param_groups(feedback=0.1)
    learner.model.layers[1].feedforward.weight.requires_grad_(False)
    assert [group["role"] for group in learner.param_groups(forward=[1.0, 0.7])] == [
        "forward.0",
        "forward.1",
        "feedback",
    ]
    learner.backward(X, LABELS)
    assert learner.model.layers[1].feedforward.weight.grad is None
    assert learner.model.layers[2].feedforward.weight.grad is not None


@each_rule
def test_copies_and_pickles_learn_alike_and_apart(name):
    learner = make_learner(name)
    twins = [copy.deepcopy(learner), pickle.loads(pickle.dumps(learner)), learner.with_rule(learner.rule)]  # noqa: S301
    torch.manual_seed(6)
    learner.backward(X, LABELS)
    for twin in twins:
        assert not gradients(twin)
        torch.manual_seed(6)
        twin.backward(X, LABELS)
        assert largest_difference(gradients(twin), gradients(learner)) == 0
        assert all(torch.equal(one, two) for one, two in zip(twin.buffers(), learner.buffers(), strict=True))


def test_gradients_are_added_up_and_scaled():
    learner, other = make_learner("EquilibriumPropagation"), make_learner("EquilibriumPropagation")
    learner.rule.random_sign = other.rule.random_sign = False
    learner.backward(X, LABELS)
    other.backward(X, LABELS, scale=3.0)
    learner.backward(X, LABELS, accumulate=True, scale=2.0)
    assert largest_difference(gradients(learner), gradients(other)) <= 1e-12


def test_another_rule_trains_a_copy_where_it_fits_the_network():
    learner = make_learner("ContrastiveSimilarityMatching")
    twin = learner.with_rule(EquilibriumPropagation())
    assert [group["role"] for group in twin.param_groups()] == ["forward", "bias"]
    with pytest.raises(MismatchError, match="CorInfoMax trains a CorInfoMaxNetwork network, not a EquilibriumNetwork"):
        learner.with_rule(CorInfoMax())
    with pytest.raises(
        MismatchError, match="Backprop trains units that follow each other, and a EquilibriumNetwork settl"
    ):
        learner.with_rule(Backprop())


class Whole(contract.LearningRule):
    """Backpropagation through a nn.Sequential as a network of its own."""

    own_network, needs_units = nn.Sequential, False

    def backward(self, walk, inputs, targets):
        output = walk.whole()
        loss, error = contract.label_loss(output.logits.detach(), targets)
        walk.send(output.logits, error, loss)
        return Step(loss, output.logits.detach(), targets)


def test_a_rule_with_units_and_one_without_do_not_take_each_others_place():
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    whole = Learner(model, Whole())
    loss = whole(X, LABELS)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(model(X), LABELS))  # once, though it has a value
    with pytest.raises(MismatchError, match="one of Whole and Backprop trains units, the other a network as a whole"):
        whole.with_rule(Backprop())


def autocast(learner):
    with torch.autocast("cpu", torch.bfloat16):
        learner.backward(X, LABELS)


REFUSED = {
    "units": (lambda one: Learner(one.model, CorInfoMax(), units="layers.*"), MismatchError, "leave units= out"),
    "head": (lambda one: Learner(one.model, CorInfoMax(), head=False), MismatchError, "leave head= out"),
    "example": (lambda one: Learner(one.model, CorInfoMax(), example=X), MismatchError, "leave example= out"),
    "setting": (lambda one: Learner(one.model, CorInfoMax(nudge=0.0)), MismatchError, "nudge 0.0"),
    "rule": (lambda one: Learner(one.model, PredictiveCoding()), MismatchError, "trains a PredictiveCodingNetwork"),
    "no lateral": (
        lambda _: Learner(equilibrium(), ContrastiveSimilarityMatching()), MismatchError, "build .*lateral=True"
    ),
    "compile": (lambda one: one.compile(), MismatchError, "trains a network as a whole, without units to compile"),
    "certify": (lambda one: certify(one, X, LABELS), MismatchError, r"no units to certify; use check_rule\(CorInf"),
    "autocast": (autocast, MismatchError, "autocast does not apply to a CorInfoMaxNetwork; leave it, and set preci"),
    "two inputs": (lambda one: one.backward((X, X), LABELS), MismatchError, "inputs are 2 tensors, and a CorInfoMaxN"),
    "features": (lambda one: one.backward(X[:, :4], LABELS), MismatchError, r"inputs have shape \(8, 4\); give \(samp"),
    "type": (lambda one: one.backward(X.float(), LABELS), MismatchError, r"give x\.to\(torch\.float64\)$"),
    "NaN": (lambda one: one.backward(X * torch.nan, LABELS), NonFiniteDataError, "inputs hold NaN or infinity"),
    "targets": (lambda one: one.backward(X, NUMBERS / 0), NonFiniteDataError, "targets hold NaN or infinity"),
    "labels": (lambda one: one.backward(X, LABELS + 1), LabelError, "labels run from 1 to 3"),
    "numbers": (lambda one: one.backward(X, X), MismatchError, r"continuous targets \(8, 6\) do not fit"),
    "no samples": (lambda one: one.backward(X[:0], LABELS[:0]), EmptyBatchError, "an empty batch"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_right_is_refused_in_one_line(what):
    act, kind, words = REFUSED[what]
    learner = make_learner("CorInfoMax")
    with pytest.raises(kind, match=words) as caught:
        act(learner)
    assert "\n" not in str(caught.value)
    assert not gradients(learner)


@each_rule
def test_a_network_whose_weights_are_not_finite_is_named_by_its_layer(name):
    learner = make_learner(name)
    next(learner.model.layers[1].parameters()).data.fill_(torch.nan)
    with pytest.raises(DivergenceError, match=r"^layers\.[01]: .* not finite; lower"):
        learner.backward(X, LABELS)


@each_rule
def test_a_monitor_measures_what_version_1_watches_and_names_a_layer_that_collapses(name):
    learner = make_learner(name)
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    found = learner.rule.monitor(learner.model, X, LABELS)
    assert found == learner.rule.watch(learner.model, X, LABELS)
    assert "rate" in found
    assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())
    for parameter in learner.model.parameters():
        parameter.data.zero_()
    with pytest.raises(DivergenceError, match=r"layers\.0 has collapsed"):
        learner.rule.monitor(learner.model, X, LABELS)


def test_a_network_in_half_precision_computes_in_it():
    learner = make_learner("EquilibriumPropagation").bfloat16()
    step = learner.backward(X.bfloat16(), LABELS)
    assert step.loss.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.bfloat16 for p in learner.parameters())
