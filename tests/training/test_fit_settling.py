"""fit, with networks that settle: default rates, one loss for training and validation, and how divergence ends it."""

import pytest
import torch
from fit_toys import same, weights
from torch.nn.functional import one_hot

import infohebb
from infohebb import (
    ContrastiveSimilarityMatching,
    CorInfoMax,
    CorInfoMaxNetwork,
    EquilibriumNetwork,
    EquilibriumPropagation,
    Learner,
    PredictiveCoding,
    PredictiveCodingNetwork,
    PredictiveCodingNudge,
)
from infohebb.callbacks import Alignment, Callback, Checkpoint, Monitor
from infohebb.data import blobs
from infohebb.errors import DivergenceError, MismatchError, NonFiniteLossError

RULES = {
    CorInfoMax: CorInfoMaxNetwork,
    EquilibriumPropagation: EquilibriumNetwork,
    ContrastiveSimilarityMatching: EquilibriumNetwork,
    PredictiveCoding: PredictiveCodingNetwork,
    PredictiveCodingNudge: PredictiveCodingNetwork,
}
SPARSE = {"sparse": (1, 2), "multiplier_rates": (1e-6, 1e-6)}


def learner(rule=CorInfoMax, settings=None, **options):
    torch.manual_seed(0)
    options |= {"lateral": True} if rule is ContrastiveSimilarityMatching else {}
    return Learner(RULES[rule](8, 2, (8,), **options), rule(**(settings or {})))


def arrays():
    data = blobs()
    return data.train.inputs[:100], data.train.targets[:100]


def fit(one, validation=None, **options):
    return infohebb.fit(one, arrays(), validation, **{"epochs": 2, "batch": 20, "progress": False, **options})


def sgd(one, rate):
    return torch.optim.SGD(one.param_groups(), lr=rate)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_fit_without_an_optimizer_learns_and_scores_the_networks_own_loss(rule):
    one, (x, y) = learner(rule), arrays()
    history = fit(one, (x, y), epochs=4, callbacks=[Monitor()])
    roles = {group["role"] for group in one.param_groups()}
    assert history["learning_rate"] == {role: [1e-3] * 4 for role in roles}
    assert history["train_loss"][-1] < history["train_loss"][0]
    squared = (one.model(x) - one_hot(y)).square().mean()
    assert history["validation_loss"][-1] == pytest.approx(float(squared), rel=1e-5)
    accuracy = 100 * (one.model(x).argmax(1) == y).float().mean()
    assert history["validation_accuracy"][-1] == pytest.approx(float(accuracy))
    assert infohebb.evaluate(one.model, (x, y)) == {"accuracy": pytest.approx(float(accuracy))}
    assert torch.equal(infohebb.predict(one.model, x, batch=30).argmax(1), one.model(x).argmax(1))
    assert history["monitor"]["epoch"] == [0, 1, 2, 3, 4]
    assert set(history["monitor"]["rate"]) == {"layers.0", "layers.1"}


class Freeze(Callback):
    """Has the optimizer change nothing."""

    def on_fit_start(self, state):
        for group in state.optimizer.param_groups:
            group["lr"] = 0.0


@pytest.mark.parametrize("numbers", [False, True])
def test_losses_of_training_and_validation_are_the_same_quantity(numbers):
    one, (x, y) = learner(EquilibriumPropagation), arrays()
    data = (x, torch.rand(len(x), 2)) if numbers else (x, y)
    options = {"epochs": 1, "batch": 20, "progress": False, "callbacks": [Freeze()]}
    history = infohebb.fit(one, data, data, optimizer=sgd(one, 0.1), **options)
    assert history["train_loss"] == pytest.approx(history["validation_loss"], rel=1e-6)
    if numbers:
        assert history["validation_error"] == pytest.approx(history["validation_loss"], rel=1e-6)


class Silence(Callback):
    """Has the first hidden layer answer the same to each sample from the second epoch on."""

    def on_step_end(self, state):
        if state.epoch == 2:
            for parameter in state.learner.model.layers[0].parameters():
                parameter.data.zero_()


class Spoil(Callback):
    """Makes an inverse correlation one that is none, in the second epoch."""

    def on_step_end(self, state):
        if state.step == 7:
            state.learner.model.layers[1].inverse_correlation.fill_(torch.nan)


DIVERGING = {
    "in a step": (
        {"settings": {}, **SPARSE}, {"rate": 1e4, "callbacks": []}, r"^epoch \d+: layers\.\d: .* not finite; lower"
    ),
    "in a step, later": (
        {}, {"rate": 0.1, "callbacks": [Spoil()]}, r"^epoch 2: layers\.\d: its inverse_correlation is not finite; lower"
    ),
    "for the monitor": (
        {}, {"rate": 0.1, "callbacks": [Monitor(), Silence()]}, r"^epoch 2: layers\.0 has collapsed: .*; lower"
    ),
    "for the monitor, by its inverse": (
        {"settings": {"forgetting": 0.5}}, {"rate": 0.1, "callbacks": [Monitor()]},
        r"^epoch \d: layers\.\d: its inverse_correlation is none any more, .*; lower",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", DIVERGING)
def test_a_network_that_diverges_ends_the_fit_with_epoch_and_layer(where):
    made, options, words = DIVERGING[where]
    one = learner(**made)
    with pytest.raises(DivergenceError, match=words):
        fit(one, epochs=3, optimizer=sgd(one, options["rate"]), callbacks=options["callbacks"])


def test_a_network_that_has_collapsed_before_is_named_before_the_first_epoch():
    one = learner()
    one.model.layers[0].feedforward.weight.data.fill_(-1.0)
    one.model.layers[0].feedback.weight.data.zero_()
    inputs, targets = arrays()
    options = {"epochs": 1, "progress": False, "callbacks": [Monitor()]}
    with pytest.raises(DivergenceError, match=r"^epoch 0: layers\.0 has collapsed"):
        infohebb.fit(one, (inputs.abs(), targets), **options)


def test_weights_that_are_not_finite_at_the_end_of_an_epoch_are_named():
    class Overflow(Callback):
        def on_step_end(self, state):
            if state.step == 5:
                state.learner.model.layers[1].weight.data.fill_(torch.inf)

    one = learner(PredictiveCoding)
    with pytest.raises(NonFiniteLossError, match=r"^epoch 1, step 5: model\.layers\.1\.weight is not finite; lower"):
        fit(one, optimizer=sgd(one, 0.1), callbacks=[Overflow()])


def test_alignment_takes_another_rule_of_the_same_networks_only():
    one = learner(ContrastiveSimilarityMatching)
    before = weights(one)
    history = fit(one, epochs=1, callbacks=[Alignment(EquilibriumPropagation()), Freeze()], optimizer=sgd(one, 0.1))
    assert history["alignment"]["angle"]["layers.0.weight"] == [0.0, 0.0]
    assert history["alignment"]["angle"]["laterals.0.weight"] == [None, None]
    assert same(before, weights(one))
    with pytest.raises(MismatchError, match="Backprop trains units that follow each other, and a EquilibriumNetwork"):
        fit(one, callbacks=[Alignment(infohebb.Backprop())])


class StoppedError(Exception):
    """A fit is interrupted."""


class Crash(Callback):
    """Interrupts a fit in its third epoch."""

    def on_step_end(self, state):
        if state.step == 12:
            raise StoppedError


@pytest.mark.parametrize("rule", [CorInfoMax, ContrastiveSimilarityMatching], ids=lambda rule: rule.__name__)
def test_a_resumed_fit_ends_with_the_bits_of_one_that_was_not_interrupted(rule, tmp_path):
    ends = []
    for folder, crash in (("whole", False), ("stopped", True), ("stopped", False)):
        one = learner(rule)
        torch.manual_seed(7)
        options = {"epochs": 4, "optimizer": torch.optim.SGD(one.param_groups(), lr=0.05, momentum=0.9)}
        callbacks = [Checkpoint(tmp_path / folder), Monitor(), *([Crash()] if crash else [])]
        if crash:
            with pytest.raises(StoppedError):
                fit(one, arrays(), callbacks=callbacks, **options)
            continue
        history = fit(one, arrays(), callbacks=callbacks, **options)
        del history["seconds"]
        ends.append((weights(one), history))
    assert same(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]
