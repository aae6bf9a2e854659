"""What an attack with bad input found: each is one line that names the thing and a fix, before anything is trained."""

import inspect
import warnings

import pytest
import torch
from fit_toys import arrays, learner, sequential, weights
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

import infohebb
from infohebb.callbacks import Callback, Checkpoint, EarlyStopping, Monitor, Snapshots, TensorBoard
from infohebb.errors import (
    CheckpointError,
    InfohebbError,
    LabelError,
    MismatchError,
    UnknownKeyError,
    UnknownNameError,
    UsageError,
    WrongTypeError,
)
from infohebb.training import evaluate, predict

X, Y = arrays()


def fit(one=None, train=(X, Y), validation=None, **options):
    one = learner() if one is None else one
    return infohebb.fit(one, train, validation, **{"epochs": 1, "batch": 20, "progress": False, **options})


def train(**options):
    options = {"epochs": 1, "batch": 20, "progress": False, **options}
    return infohebb.train(sequential(), infohebb.KernelizedBottleneck(), (X, Y), **options)


def refused(kind, words, make):
    with pytest.raises(kind, match=words) as caught:
        make()
    message = str(caught.value)
    assert isinstance(caught.value, InfohebbError)
    assert len(message) <= 300
    assert "\n" not in message


def untyped(kind, *given, **named):
    """Make one past the type checks of these tests, as a user would."""
    made = object.__new__(kind)
    inspect.unwrap(kind.__init__)(made, *given, **named)
    return made


@pytest.mark.parametrize("scheduler", [3, StepLR, lambda optimizer: StepLR(optimizer, 1)], ids=["3", "class", "lambda"])
@pytest.mark.parametrize("run", [fit, train])
def test_a_scheduler_that_is_none_is_refused_without_an_optimizer(run, scheduler):
    refused(WrongTypeError, "scheduler=.*: give a scheduler of torch.optim", lambda: run(scheduler=scheduler))


def test_a_scheduler_made_for_fewer_steps_is_one_line():
    one = learner()
    optimizer = SGD(one.param_groups(), lr=0.1)
    cycle = OneCycleLR(optimizer, 0.1, total_steps=2)
    refused(
        MismatchError,
        "OneCycleLR was made for 2 steps",
        lambda: fit(one, optimizer=optimizer, scheduler=cycle, scheduler_per="step"),
    )


def test_an_optimizer_of_sparse_gradients_is_refused():
    one = learner()
    sparse = torch.optim.SparseAdam(list(one.model.parameters()))
    refused(MismatchError, "SparseAdam takes sparse gradients only", lambda: fit(one, optimizer=sparse))
    refused(MismatchError, "SparseAdam takes sparse gradients only", lambda: train(optimizer={"name": "sparseadam"}))


@pytest.mark.parametrize("validation", [(X[:, :5], Y), (X, torch.randn(60, 3))], ids=["narrow inputs", "wide targets"])
def test_validation_that_does_not_fit_is_refused_before_training(validation):
    one = learner()
    before = weights(one)
    refused(MismatchError, "^validation: ", lambda: fit(one, validation=validation))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(one).items())
    loader = DataLoader(TensorDataset(*validation), 20)
    refused(MismatchError, "^validation: ", lambda: fit(one, validation=loader))


def test_labels_of_one_class_are_refused():
    refused(LabelError, "all labels are of one class", lambda: fit(train=(X, Y * 0)))


KINDS = [Checkpoint, Snapshots, TensorBoard]


@pytest.mark.parametrize("kind", KINDS)
def test_folders_that_cannot_be_are_refused(tmp_path, monkeypatch, kind):
    def make(folder):
        return untyped(kind, folder=folder)

    refused(WrongTypeError, "folder=3: give the path", lambda: make(3))
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below", tmp_path / ("long" * 100), "a\0b"):
        refused(
            UsageError, "folder='.*cannot be made: .*; give a folder", lambda path=path: fit(callbacks=[make(path)])
        )
    monkeypatch.setattr("os.access", lambda *_: False)
    refused(UsageError, "folder='.*cannot be written to", lambda: fit(callbacks=[make(tmp_path / "new")]))


def test_a_checkpoint_of_nothing_is_refused(tmp_path):
    refused(WrongTypeError, "folder=None: give", lambda: untyped(Checkpoint, None))
    refused(WrongTypeError, "config=3: give a dictionary", lambda: untyped(Checkpoint, tmp_path, config=3))


def test_early_stopping_on_what_does_not_come_is_refused():
    for monitor in (None, 3, ""):
        refused(
            WrongTypeError, "monitor=.*: give the name", lambda monitor=monitor: untyped(EarlyStopping, monitor=monitor)
        )
    one = learner()
    before = weights(one)
    refused(MismatchError, "give validation=", lambda: fit(one, callbacks=[EarlyStopping()]))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(one).items())
    fit(validation=(X, Y), callbacks=[EarlyStopping()])

    def own(state):
        state.history.setdefault("validation_f1", []).append(None if state.epoch > 1 else 1.0)

    fit(callbacks=[own, EarlyStopping(monitor="validation_f1")])
    refused(
        MismatchError,
        "monitor='validation_f1': the curve has None for epoch 2",
        lambda: fit(callbacks=[own, EarlyStopping(monitor="validation_f1")], epochs=2),
    )


class Forgetful(Callback):
    """Fails as it takes its state back."""

    def state_dict(self):
        return {"count": 1}

    def load_state_dict(self, state):
        raise KeyError("weights")


def test_a_callback_that_fails_to_load_is_named_and_the_checkpoint_not_blamed(tmp_path):
    fit(callbacks=[Checkpoint(tmp_path), Forgetful()])
    words = "load_state_dict of Forgetful fails: KeyError: 'weights'"
    refused(CheckpointError, words, lambda: fit(callbacks=[Checkpoint(tmp_path), Forgetful()], epochs=2))
    one = learner()
    optimizer = SGD(one.param_groups(), lr=0.1)
    called = [Checkpoint(tmp_path / "live"), Forgetful()]
    fit(one, optimizer=optimizer, callbacks=called)
    refused(CheckpointError, words, lambda: fit(one, optimizer=optimizer, callbacks=called, epochs=2))


MONITORS = {
    "None": (lambda _: None, "returns None; have it return a dictionary"),
    "list": (lambda _: [1.0], r"returns \[1.0\]"),
    "words": (lambda _: {"a": "3"}, "returns '3' for 'a'"),
    "tensor": (lambda _: {"a": torch.ones(500)}, "returns tensor.* for 'a'"),
    "epoch": (lambda _: {"epoch": 1}, "returns the key 'epoch'"),
    "number as key": (lambda _: {1: 1}, "returns the key 1"),
}


@pytest.mark.parametrize("name", MONITORS)
def test_monitors_that_give_no_numbers_are_refused(name):
    function, words = MONITORS[name]
    refused(WrongTypeError, f"Monitor: function {words}", lambda: fit(callbacks=[Monitor(function)]))


def test_monitors_that_are_no_functions_or_share_a_name_are_refused():
    refused(WrongTypeError, "function=3: give a function", lambda: untyped(Monitor, 3))
    two = [Monitor(lambda _: {"a": 1, "b": 2}), Monitor(lambda _: {"b": 1})]
    refused(MismatchError, "returns 'b', as another Monitor does", lambda: fit(callbacks=two))
    two = [Monitor(lambda _: {"a": 1}), Monitor(lambda _: {"b": torch.ones(1)}, every=2)]
    assert fit(callbacks=two)["monitor"] == {"epoch": [0, 1], "a": [1, 1], "b": [1]}


class Gives(nn.Module):
    """Gives what it is told to."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x[:, :2])


OUTPUTS = {
    "a map": (lambda x: x[:, None], r"shape \(60, 1, 2\)"),
    "a vector": (lambda x: x[:, 0], r"shape \(60,\)"),
    "samples last": (lambda x: x.T, r"shape \(2, 60\)"),
    "a dictionary": (lambda x: {"logits": x}, "type dict"),
    "nothing": (lambda x: None, "type NoneType"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_are_no_samples_by_outputs_are_refused(name):
    make, words = OUTPUTS[name]
    for ask in (lambda: evaluate(Gives(make), (X, Y)), lambda: predict(Gives(make), X)):
        refused(MismatchError, f"the Gives gives an output of {words} for 60 samples", ask)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"lr": {"units": [0.1, 0.2]}, "weight_decay": {"units": [0.1]}}, WrongTypeError, "units has 1 numbers where"),
        ({"lr": 0.1, "weight_decay": {"head": 0.1}}, WrongTypeError, "weight_decay gives no number for the 'units'"),
        ({"lr": {"units": {"lr": 1}}}, WrongTypeError, r"optimizer\.lr\.units is \{'lr': 1\}; it must be a number"),
        ({"lr": {"units": [0.1, "a"]}}, WrongTypeError, r"optimizer\.lr\.units is"),
        ({"lr": {1: 0.1}}, WrongTypeError, "a role is a name"),
        ({"lr": {"layers": 0.1}}, UnknownNameError, "unknown role or parameter 'layers'; roles are units, head and"),
        ({"momentum": 0.9}, UnknownKeyError, r"optimizer\.momentum: torch's Adam has no such option"),
    ],
)
def test_rates_by_role_that_cannot_be_are_one_line(options, kind, words):
    refused(kind, words, lambda: train(optimizer={"name": "adam", **options}))


ROLES_OF_VERSION_1 = {  # what "local" and "readout" were, of each kind of rule
    "local rule": (infohebb.KernelizedBottleneck, {"units": 0.1, "head": 0.2}),
    "rule that owns parameters": (infohebb.LayerwiseClassification, {"units": 0.1, "rule": 0.1, "head": 0.2}),
    "predictive coding": (infohebb.PredictiveCoding, {"forward": 0.1, "bias": 0.1}),
}


@pytest.mark.parametrize("kind", ROLES_OF_VERSION_1)
def test_roles_of_version_1_warn_with_the_new_spelling_and_mean_the_same(kind):
    rule, rates = ROLES_OF_VERSION_1[kind]
    own = rule.own_network
    model = sequential() if own is None else own(8, 2, (6,))
    old = {"local": 0.1, **({} if own else {"readout": 0.2})}
    spelled = " and ".join(f"optimizer.lr.{role}" for role in rates if role != "head")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = infohebb.train(model, rule(), (X, Y), epochs=1, optimizer={"lr": old}, progress=False)
    assert {name: rate[0] for name, rate in history["learning_rate"].items()} == rates
    assert [each.category for each in caught] == [FutureWarning] * len(old)
    assert str(caught[0].message) == f"optimizer.lr.local is now {spelled}; the old name goes in version 0.3"


def test_readout_was_all_parameters_for_rules_with_an_error_from_above():
    with pytest.warns(FutureWarning, match=r"lr\.readout is now optimizer\.lr\.units and optimizer\.lr\.head"):
        history = infohebb.train(
            sequential(), infohebb.Backprop(), (X, Y), epochs=1, optimizer={"lr": {"readout": 0.3}}, progress=False
        )
    assert history["learning_rate"] == {"units": [0.3], "head": [0.3]}


def test_hold_warns_and_is_steps_per_sample():
    with pytest.warns(FutureWarning, match="^hold is now steps_per_sample; the old name goes in version 0.3$"):
        refused(MismatchError, "steps_per_sample=2: KernelizedBottleneck learns from batches", lambda: train(hold=2))
    both = "training gives hold and steps_per_sample; leave out hold"
    refused(WrongTypeError, both, lambda: train(hold=2, steps_per_sample=3))
