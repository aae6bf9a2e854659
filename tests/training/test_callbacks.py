"""Callbacks: each does what it says, and none changes what is learned."""

import copy
import json
import sys
from functools import partial

import pytest
import torch
from fit_toys import arrays, learner, own_learner, same, sequential, weights
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

import infohebb
from infohebb.callbacks import Alignment, Callback, EarlyStopping, Monitor, Progress, Snapshots, TensorBoard
from infohebb.data import DataSet, Split
from infohebb.errors import MismatchError, UnknownNameError, UsageError, WrongTypeError
from infohebb.training.batches import Home, as_batches


def fit(learner, train=None, validation=None, **options):
    train = arrays() if train is None else train
    return infohebb.fit(learner, train, validation, **{"epochs": 2, "batch": 20, "progress": False, **options})


def test_events_come_in_order_with_the_state():
    seen = []

    class Diary(Callback):
        def on_fit_start(self, state):
            seen.append(("start", state.epoch, state.step))

        def on_step_end(self, state):
            seen.append(("step", state.epoch, state.step, len(state.last.targets)))

        def on_epoch_end(self, state):
            seen.append(("epoch", state.epoch, state.step, len(state.history["epoch"])))

        def on_fit_end(self, state):
            seen.append(("end", state.epoch, state.step))

    fit(learner(), arrays(40), callbacks=Diary())
    steps = [("step", 1 + (k > 2), k, 20) for k in range(1, 5)]
    assert seen == [("start", 0, 0), *steps[:2], ("epoch", 1, 2, 1), *steps[2:], ("epoch", 2, 4, 2), ("end", 2, 4)]


def test_a_function_is_called_at_the_end_of_each_epoch_and_may_stop_the_fit():
    epochs = []

    def stop(state):
        epochs.append(state.epoch)
        state.stop = state.epoch == 2

    history = fit(learner(), epochs=5, callbacks=[stop])
    assert epochs == history["epoch"] == [1, 2]


def test_early_stopping_ends_the_fit_and_brings_the_best_weights_back():
    kept = {}

    def keep(state):
        kept[state.epoch] = weights(state.learner.model)
        state.history.setdefault("score_accuracy", []).append([1.0, 3.0, 2.0, 3.0, 0.0][state.epoch - 1])

    one = learner()
    history = fit(one, epochs=5, callbacks=[keep, EarlyStopping(2, "score_accuracy")])
    assert history["epoch"] == [1, 2, 3, 4]
    assert same(weights(one.model), kept[2])


def test_early_stopping_names_the_curves_that_exist():
    with pytest.raises(UnknownNameError, match="unknown curve of the history 'train_los'"):
        fit(learner(), callbacks=[EarlyStopping(monitor="train_los")])


def test_alignment_is_that_of_the_two_gradients():
    torch.manual_seed(1)
    one = own_learner()
    batch = arrays(30, seed=2)
    twin = infohebb.Learner(copy.deepcopy(one.model), infohebb.Backprop())
    history = fit(one, epochs=1, callbacks=[Alignment(infohebb.Backprop(), batch)])
    own = own_learner()
    own.backward(*batch)
    twin.backward(*batch)
    first, second = own.model.stem.weight.grad.flatten().double(), twin.model.stem.weight.grad.flatten().double()
    cosine = torch.nn.functional.cosine_similarity(first, second, 0)
    lines = history["alignment"]
    assert lines["epoch"] == [0, 1]
    assert lines["angle"]["stem.weight"][0] == pytest.approx(float(torch.rad2deg(torch.acos(cosine))), rel=1e-5)
    assert lines["norm_ratio"]["stem.weight"][0] == pytest.approx(float(first.norm() / second.norm()), rel=1e-5)
    assert lines["angle"]["fc.weight"][0] == pytest.approx(0, abs=1e-3)


def test_two_rules_see_the_same_dropout_and_what_does_not_learn_has_no_angle():
    """Our dropout draws by unit, and backprop runs the network as a whole."""
    model = infohebb.networks.plain.MLP(8, 2, (16, 16), dropout=0.5)
    one = infohebb.Learner(model, infohebb.LastLayer())
    lines = fit(one, callbacks=[Alignment(infohebb.Backprop())])["alignment"]
    assert lines["angle"]["readout.weight"] == pytest.approx([0.0] * 3, abs=1e-3)
    names = [f"layers.{k}.activity.linear.weight" for k in (0, 1)]
    assert [lines[measure][name] for measure in ("angle", "norm_ratio") for name in names] == [[None] * 3] * 4
    json.dumps(lines, allow_nan=False)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_backprop_is_its_own_reference_whatever_it_draws_and_rounds(precision):
    """By dropout and batch norm, on fully connected and convolutional layers; frozen weights are left out."""
    torch.manual_seed(0)
    images = torch.randn(20, 1, 8, 8)
    settings = {"norm": "batch", "divisive_norm": {"groups": 2}, "dropout": 0.3}
    model = infohebb.networks.plain.ConvNet((1, 8, 8), 2, (4, 4), (2,), (16,), **settings)
    model.layers[1].requires_grad_(False)
    one = infohebb.Learner(model, infohebb.Backprop())
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        lines = fit(one, (images, torch.arange(20) % 2), callbacks=[Alignment(infohebb.Backprop())])["alignment"]
    learning = ["layers.0.activity.conv.weight", "layers.2.activity.linear.weight", "readout.weight"]
    assert [*lines["angle"]] == learning
    assert all(angles == pytest.approx([0] * 3, abs=1e-4) for angles in lines["angle"].values())
    assert all(ratios == pytest.approx([1] * 3, rel=1e-6) for ratios in lines["norm_ratio"].values())


class Zero(infohebb.LocalRule):
    """Its units have no error."""

    def error(self, z, signal, context, unit):
        return infohebb.LocalError(None, z * 0, z * 0)


def test_a_gradient_of_zero_has_no_angle_and_its_ratio_is_zero():
    for own, other, ratio in ((Zero, infohebb.Backprop, 0.0), (infohebb.Backprop, Zero, None)):
        lines = fit(own_learner(own()), epochs=1, callbacks=[Alignment(other())])["alignment"]
        assert lines["angle"]["stem.weight"] == [None, None]
        assert lines["norm_ratio"]["stem.weight"] == [ratio, ratio]


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3]), (2, [0, 2]), (3, [0, 3]), (9, [0])])
def test_every_counts_epochs_from_before_learning(every, epochs):
    lines = fit(own_learner(), epochs=3, callbacks=[Alignment(infohebb.Backprop(), every=every)])["alignment"]
    assert lines["epoch"] == epochs
    assert all(len(line) == len(epochs) for name in ("angle", "norm_ratio") for line in lines[name].values())


def test_the_batch_set_apart_is_fixed_not_augmented_and_of_every_class():
    x, y = arrays()
    order = y.argsort(stable=True)
    given = DataSet("sorted", Split(x[order], y[order]), None, 2, augment=lambda x: -x)
    batches = as_batches(given, 20, Home(torch.device("cpu"), torch.float64))
    inputs, targets = batches.sample()
    assert inputs.dtype == torch.float64
    assert len(targets) == 20
    assert set(targets.tolist()) == {0, 1}
    rows = {tuple(row) for row in x.double().tolist()}
    assert all(tuple(row) in rows for row in inputs.tolist())
    assert torch.equal(batches.sample()[0], inputs)


def test_the_seconds_of_an_epoch_are_those_of_learning(monkeypatch):
    now = [0.0]

    class Slow(infohebb.Backprop):
        def backward(self, *batch):
            now[0] += 1000
            return super().backward(*batch)

    monkeypatch.setattr("infohebb.training.fitting.time.perf_counter", lambda: now[0])
    history = fit(own_learner(), callbacks=[Alignment(Slow())])
    assert now == [3000]
    assert history["seconds"] == [0, 0]


@pytest.mark.parametrize(
    "reference",
    [
        *(infohebb.Backprop, infohebb.DirectFeedbackAlignment, infohebb.FeedbackAlignment),
        *(infohebb.LayerwiseClassification, partial(infohebb.SignSymmetry, gradient_signs=True)),
    ],
)
def test_measuring_changes_no_bit_of_the_training(tmp_path, reference):
    def run(callbacks):
        one = infohebb.Learner(sequential(), infohebb.KernelizedBottleneck(), example=arrays()[0])
        torch.manual_seed(9)
        fit(one, arrays(), arrays(), callbacks=callbacks)
        return weights(one)

    x, _ = arrays()
    measuring = [
        Alignment(reference()),
        Monitor(lambda learner: {"norm": learner.model[0].weight.norm().item()}),
        Snapshots(activities=x),
        TensorBoard(tmp_path),
        EarlyStopping(9),
    ]
    assert same(run([]), run(measuring))


def test_gradients_are_measured_before_a_rule_changes_them():
    one = infohebb.Learner(sequential(), infohebb.SignSymmetry(gradient_signs=True))
    history = fit(one, callbacks=[Alignment(infohebb.SignSymmetry())])
    assert all(angles == pytest.approx([0.0] * 3, abs=1e-3) for angles in history["alignment"]["angle"].values())


def test_a_loader_has_no_batch_to_measure_on():
    with pytest.raises(MismatchError, match=r"give .*batch="):
        fit(learner(), [arrays(20)], callbacks=[Alignment(infohebb.Backprop())])


def test_monitor_keeps_numbers_of_a_function_and_of_the_rule():
    class Watching(infohebb.KernelizedBottleneck):
        def monitor(self, model, inputs, targets):
            return {"rows": {"all": float(len(targets))}}

    function = Monitor(lambda one: {"norm": one.model.fc.weight.norm()}, every=2)
    history = fit(own_learner(), epochs=4, callbacks=[function])
    assert history["monitor"]["epoch"] == [0, 2, 4]
    assert len(history["monitor"]["norm"]) == 3
    history = fit(own_learner(Watching()), epochs=1, callbacks=[Monitor()])
    assert history["monitor"] == {"epoch": [0, 1], "rows": {"all": [60.0, 60.0]}}


def test_snapshots_hold_weights_and_activities_in_memory_or_in_a_folder(tmp_path):
    x, _ = arrays(10)
    kept = Snapshots(2, activities=x)
    one = own_learner()
    before = weights(one.model)
    fit(one, epochs=4, callbacks=[kept, Snapshots(4, activities=x, folder=tmp_path)])
    assert list(kept.taken) == [0, 2, 4]
    assert torch.equal(kept.taken[0]["weights/stem.weight"], before["stem.weight"])
    assert torch.equal(kept.taken[4]["activities/stem"], one.model.stem(x))
    written = load_file(tmp_path / "epoch0004.safetensors")
    assert same(written, kept.taken[4])


def test_tensorboard_gets_each_number_of_the_history(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = fit(learner(), callbacks=[TensorBoard(tmp_path)])
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [1, 2]
    assert events.Scalars("objective/0:3/relevance")[1].value == pytest.approx(
        history["objective"]["0:3"]["relevance"][1]
    )


def test_without_tensorboard_one_line_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'infohebb\[track\]'"):
        TensorBoard(tmp_path)


def test_the_bar_shows_epoch_and_accuracy_on_a_terminal_only(monkeypatch, capsys):
    fit(learner(), progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    fit(learner(), callbacks=[Progress()])
    shown = capsys.readouterr().err
    assert "KernelizedBottleneck" in shown
    assert "epoch 2/2" in shown


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(0),
        lambda: EarlyStopping(smallest_change=-1.0),
        lambda: Alignment(infohebb.Backprop(), every=0),
        lambda: Monitor(every=-1),
    ],
)
def test_wrong_settings_are_refused(make):
    with pytest.raises(WrongTypeError, match=r"=.*: give "):
        make()


LOADER = DataLoader(TensorDataset(*arrays()), 10)
MISFITS = {
    "two references": (
        {"callbacks": [Alignment(infohebb.Backprop()), Alignment(infohebb.LastLayer())]},
        "two Alignments",
    ),
    "nothing to monitor": ({"callbacks": [Monitor()]}, "monitor of KernelizedBottleneck has no numbers .* give Mon"),
    "size of batches": ({"train": LOADER, "batch": 7}, "batch=7, and the loader has batches of 10; leave batch out"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_would_be_ignored_or_mixed_is_refused(name):
    options, words = MISFITS[name]
    with pytest.raises(MismatchError, match=words):
        infohebb.fit(learner(), **{"train": arrays(), "epochs": 1, **options})


def test_a_setting_that_the_optimizer_does_not_have_is_refused():
    one = learner()
    optimizer = torch.optim.AdamW(one.param_groups(units={"lr": 1e-3, "weigth_decay": 0.1}))
    for use in (one.make_step, lambda optimizer: infohebb.fit(one, arrays(), epochs=1, optimizer=optimizer)):
        with pytest.raises(UnknownNameError, match="setting of AdamW 'weigth_decay'; did you mean 'weight_decay'"):
            use(optimizer)


def test_an_optimizer_of_another_model_makes_no_step():
    with pytest.raises(MismatchError, match="holds no parameter of this learner"):
        learner().make_step(torch.optim.SGD(sequential().parameters(), lr=0.1))
