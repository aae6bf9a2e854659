"""fit in the order asked for: samples and windows one by one, epochs of any length, exact resume, stacked networks."""

from typing import ClassVar

import pytest
import torch
from fit_toys import same, weights
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

import infohebb
from infohebb.callbacks import Callback, Checkpoint, EarlyStopping, Progress
from infohebb.data import DataSet, Split
from infohebb.data.streams import order_of_pass
from infohebb.errors import (
    CheckpointError,
    LabelError,
    MismatchError,
    NonFiniteLossError,
    WrongTypeError,
)
from infohebb.networks import plain
from infohebb.rules.contract import Step
from infohebb.training import epoch, sampling, split_curves, statistics
from infohebb.training.callbacks.tensorboard import last_numbers
from infohebb.training.statistics import curves_of

LABELS = torch.tensor([0, 1, 1, 0, 1, 0, 1])
INPUTS = torch.arange(7.0)[:, None].expand(7, 8).contiguous()


class Batches(infohebb.LocalRule):
    """Keeps what it is given; with `noise` it learns from random numbers and from what it remembers."""

    memory: torch.Tensor

    def __init__(self, noise=0.0, waits=0):
        super().__init__()
        self.noise, self.waits, self.seen = noise, waits, []

    def setup(self, units, head, classes):
        self.register_buffer("memory", torch.zeros(()))

    def backward(self, walk, inputs, targets):
        self.seen.append((inputs[:, 0].tolist(), targets.tolist(), walk.onset))
        if len(self.seen) <= self.waits:
            return Step(None, None, targets, waiting=True)
        self.memory.mul_(0.9).add_(inputs.mean() + walk.onset)
        return super().backward(walk, inputs, targets)

    def error(self, z, signal, context, unit):
        error = z + self.noise * (self.memory + torch.rand_like(z)) if self.noise else z
        return infohebb.LocalError(None, error, error, {"objective": z.mean()})


class Samples(Batches):
    """Learns from one sample at a time."""

    consumes = "sample"


class Windows(Batches):
    """Learns from windows."""

    consumes = "window"


def learner(rule):
    torch.manual_seed(5)
    return infohebb.Learner(nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)), rule)


def fit(rule, train=(INPUTS, LABELS), validation=None, **options):
    one = learner(rule)
    options = {"epochs": 1, "progress": False, "optimizer": torch.optim.SGD(one.param_groups(), lr=0.01), **options}
    return infohebb.fit(one, train, validation, **options)


def order(seed, turn, name="random"):
    return order_of_pass(LABELS, name, seed, turn).tolist()


RAW = Split((INPUTS * 10).to(torch.uint8), LABELS)
PLAIN = DataSet("plain", RAW, None, 2, normalise=lambda x: x.float() / 10)
NOISY = DataSet("augmented", RAW, None, 2, normalise=PLAIN.normalise, augment=lambda x: x + 10 * torch.rand(1))


@pytest.mark.parametrize("given", [PLAIN, NOISY], ids=["plain", "augmented"])
@pytest.mark.parametrize(
    ("rule", "batch", "options"),
    [
        (Batches, 3, {"order_seed": 4}),
        (Batches, 3, {"order": "balanced", "order_seed": 4, "epoch_samples": 5}),
        (Samples, 1, {"order_seed": 0}),
        (Samples, 1, {"order": "drifting", "order_seed": 4, "epoch_samples": 10, "steps_per_sample": 3}),
        (Windows, 3, {"order": "blocked", "order_seed": 4, "steps_per_sample": 2}),
        (Windows, 4, {"order_seed": 4, "epoch_samples": 9}),
        (Windows, 1, {"order_seed": 4}),
    ],
)
def test_steps_follow_the_order_over_epochs_and_passes(given, rule, batch, options):
    """Batches go over the ends of passes, windows do not; each is augmented once, at its onset."""
    one, epochs = rule(), 3
    infohebb.fit(learner(one), given, epochs=epochs, batch=batch, progress=False, **options)
    passes = [order(options["order_seed"], turn, options.get("order", "random")) for turn in range(7)]
    if rule is Batches:
        length = options.get("epoch_samples", 7)
        line = [row for each in passes for row in each]
        parts = [line[k * length : (k + 1) * length] for k in range(epochs)]
        index = [part[k : k + batch] for part in parts for k in range(0, length, batch)]
    else:
        count = epochs * options.get("epoch_samples", 8 - batch)
        index = [each[k : k + batch] for each in passes for k in range(8 - batch)][:count]
    steps = options.get("steps_per_sample", 1)
    assert [(y, onset) for _, y, onset in one.seen] == [
        (LABELS[rows].tolist(), step == 0) for rows in index for step in range(steps)
    ]
    noise = [[x - row for x, row in zip(seen[0], index[k // steps], strict=True)] for k, seen in enumerate(one.seen)]
    drawn = {round(shift[0], 4) for shift in noise}
    assert all(shift == pytest.approx([shift[0]] * batch, abs=1e-4) for shift in noise if len(shift) == batch)
    assert drawn == {0.0} if given is PLAIN else len(drawn) == len(index)


def test_batches_in_random_order_without_a_seed_are_shuffled_by_torchs_generator():
    rule = Batches()
    one = learner(rule)
    torch.manual_seed(3)
    infohebb.fit(one, (INPUTS, LABELS), epochs=1, batch=4, progress=False)
    torch.manual_seed(3)
    assert [row for x, _, _ in rule.seen for row in x] == torch.randperm(7).tolist()


def test_samples_come_one_by_one_for_some_steps_with_one_onset():
    rule = Samples()
    history = fit(rule, order_seed=5, steps_per_sample=3, validation=(INPUTS, LABELS))
    assert rule.seen == [([float(i)], [int(LABELS[i])], step == 0) for i in order(5, 0) for step in range(3)]
    assert history["samples"] == [7]
    assert 0 <= history["validation_accuracy"][0] <= 100


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_windows_slide_within_a_pass_whatever_is_made_ready_at_a_time(chunk, monkeypatch):
    monkeypatch.setattr(sampling, "CHUNK", chunk)
    rule = Windows()
    history = fit(rule, batch=3, epochs=2, order_seed=5)
    assert [x for x, _, _ in rule.seen] == [order(5, turn)[i : i + 3] for turn in (0, 1) for i in range(5)]
    assert [y for _, y, _ in rule.seen] == [
        LABELS[order(5, turn)[i : i + 3]].tolist() for turn in (0, 1) for i in range(5)
    ]
    assert history["samples"] == [5, 10]


@pytest.mark.parametrize(("rule", "options"), [(Windows, {"batch": 3}), (Batches, {"batch": 1})])
def test_an_epoch_of_any_length_goes_on_where_the_last_one_stopped(rule, options):
    whole, parts = rule(), rule()
    per_pass = 5 if rule is Windows else 7
    fit(whole, epochs=3, order_seed=5, **options)
    history = fit(parts, epochs=per_pass, epoch_samples=3, order_seed=5, **options)
    assert parts.seen == whole.seen
    assert history["samples"] == [3 * (epoch + 1) for epoch in range(per_pass)]


@pytest.mark.parametrize(("rule", "options"), [(Samples, {}), (Batches, {"order": "blocked", "batch": 2})])
def test_without_a_seed_of_its_own_torchs_draws_the_order(rule, options):
    def seen(seed, **more):
        one = rule()
        made = learner(one)
        torch.manual_seed(seed)
        for _ in range(2):
            infohebb.fit(made, (INPUTS, LABELS), epochs=1, progress=False, **options, **more)
        half = len(one.seen) // 2
        return one.seen[:half], one.seen[half:]

    assert seen(1) == seen(1)
    assert seen(1) != seen(2)
    assert seen(1)[0] != seen(1)[1]
    shared = seen(1, order_seed=3)
    assert shared == seen(2, order_seed=3)
    assert shared[0] == shared[1]


def test_what_acts_on_inputs_acts_once_on_each_window():
    drawn = []

    def unpack(batch):
        drawn.append(len(batch[1]))
        return batch[0] + 100 * len(drawn), batch[1]

    rule = Windows()
    fit(rule, batch=2, steps_per_sample=2, order_seed=0, unpack=unpack)
    first = order(0, 0)
    assert drawn == [2] * 6
    assert [x for x, _, _ in rule.seen] == [
        [first[i + k] + 100 * (i + 1) for k in (0, 1)] for i in range(6) for _ in range(2)
    ]


def test_means_are_over_steps_and_steps_that_wait_count_for_nothing():
    class Last(Callback):
        steps: ClassVar[list] = []

        def on_step_end(self, state):
            self.steps.append(state.last)

    history = fit(Windows(waits=4), batch=3, order_seed=1, epoch_samples=6, steps_per_sample=2, callbacks=Last())
    learned = [step for step in Last.steps if not step.waiting]
    assert len(learned) == 8
    assert history["samples"] == [6]
    assert history["train_loss"] == pytest.approx([float(torch.stack([step.loss for step in learned]).mean())])
    right = sum(int(step.correct.sum()) for step in learned)
    assert history["train_accuracy"] == pytest.approx([100 * right / 24])
    terms = torch.stack([step.terms["0:2"]["objective"] for step in learned])
    assert history["objective"]["0:2"]["objective"] == pytest.approx([float(terms.mean())], rel=1e-5)


def test_means_over_many_steps_are_summed_up_on_the_way(monkeypatch):
    whole = fit(Windows(), batch=3, order_seed=5, epoch_samples=40)
    for module in (epoch, statistics):
        monkeypatch.setattr(module, "FOLD", 7)
    folded = fit(Windows(), batch=3, order_seed=5, epoch_samples=40)
    assert folded["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-12)
    assert folded["train_accuracy"] == whole["train_accuracy"]


def test_schedules_and_checks_go_by_steps():
    one = learner(Samples())
    optimizer = torch.optim.SGD(one.param_groups(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 14, 0.1)
    options = {"scheduler": scheduler, "scheduler_per": "step", "steps_per_sample": 2, "check_every": 5}
    history = infohebb.fit(one, (INPUTS * 0.01, LABELS), epochs=2, progress=False, **options)
    assert history["learning_rate"]["units"] == pytest.approx([1.0, 0.1])


class StoppedError(Exception):
    """A fit is interrupted."""


@pytest.mark.parametrize("order_seed", [None, 4])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Samples, {"epoch_samples": 4, "steps_per_sample": 2}),
        (Windows, {"batch": 3, "epoch_samples": 3, "order": "drifting"}),
        (Batches, {"batch": 2, "epoch_samples": 5, "order": "balanced"}),
    ],
)
def test_a_fit_killed_within_a_pass_resumes_to_the_same_bits(tmp_path, kind, options, order_seed):
    def go(callbacks, epochs=5):
        rule = kind(noise=0.1)
        one = learner(rule)
        optimizer = torch.optim.Adam(one.param_groups(), lr=0.01)
        asked = {"optimizer": optimizer, "order_seed": order_seed, "progress": False, **options}
        history = infohebb.fit(one, (INPUTS, LABELS), epochs=epochs, callbacks=callbacks, **asked)
        del history["seconds"]
        return rule.seen, history, weights(one)

    class Crash(Callback):
        def on_step_end(self, state):
            if state.epoch == 3 and state.statistics.steps == 2:
                raise StoppedError

    torch.manual_seed(1)
    whole = go([])
    torch.manual_seed(1)
    with pytest.raises(StoppedError):
        go([Checkpoint(tmp_path), Crash()])
    torch.manual_seed(99)  # what another process draws
    resumed = go([Checkpoint(tmp_path)])
    assert resumed[0] == whole[0][-len(resumed[0]) :]
    assert resumed[1] == whole[1]
    assert same(resumed[2], whole[2])


@pytest.mark.parametrize(
    ("kind", "first", "other", "words"),
    [
        (Samples, {"order": "blocked"}, {}, r"sampling\.order was blocked and is random"),
        (Samples, {"order_seed": 1}, {"order_seed": 2}, r"sampling\.order_seed was 1 and is 2"),
        (Samples, {"steps_per_sample": 2}, {}, r"sampling\.steps_per_sample was 2 and is 1"),
        (Batches, {"epoch_samples": 5}, {}, r"sampling\.epoch_samples was 5 and is None"),
        (Windows, {"batch": 3}, {"batch": 2}, r"sampling\.window was 3 and is 2"),
        (Samples, {}, {"train": (INPUTS[1:], LABELS[1:])}, r"sampling\.samples was 7 and is 6"),
    ],
)
def test_a_checkpoint_of_another_order_is_refused_by_name(tmp_path, kind, first, other, words):
    fit(kind(), callbacks=[Checkpoint(tmp_path)], **first)
    with pytest.raises(CheckpointError, match=words):
        fit(kind(), callbacks=[Checkpoint(tmp_path)], **{"epochs": 2, **other})


def test_in_one_process_a_second_fit_goes_on_in_the_order_that_was_drawn(tmp_path):
    rule, whole = Samples(), Samples()
    one = learner(rule)
    optimizer = torch.optim.SGD(one.param_groups(), lr=0.01)
    torch.manual_seed(3)
    for epochs in (1, 2, 3):
        options = {"optimizer": optimizer, "callbacks": [Checkpoint(tmp_path)], "progress": False}
        infohebb.fit(one, (INPUTS, LABELS), epochs=epochs, epoch_samples=4, **options)
    other = learner(whole)
    torch.manual_seed(3)
    infohebb.fit(other, (INPUTS, LABELS), epochs=3, epoch_samples=4, progress=False)
    assert rule.seen == whole.seen


def test_a_loaders_samples_and_windows_are_presented_for_some_steps():
    pairs = [(INPUTS[i : i + 1], LABELS[i : i + 1]) for i in range(3)]
    rule = Samples()
    history = fit(rule, pairs, steps_per_sample=2, epochs=2)
    assert rule.seen == [([float(i)], [int(LABELS[i])], step == 0) for i in range(3) for step in range(2)] * 2
    assert history["samples"] == [3, 6]
    rule = Windows()
    history = fit(rule, [(INPUTS[i : i + 2], LABELS[i : i + 2]) for i in range(3)])
    assert [x for x, _, _ in rule.seen] == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    assert history["samples"] == [3]


LOADER = [(INPUTS, LABELS)]
REFUSED = {
    "batch of samples": (Samples, {"batch": 256}, MismatchError, "one sample at a time: give batch=1, not 256$"),
    "no window": (Windows, {}, MismatchError, "Windows learns from windows of samples: give their length"),
    "long window": (Windows, {"batch": 8}, MismatchError, "windows of 8 samples do not fit into 7"),
    "steps of batches": (Batches, {"steps_per_sample": 2}, MismatchError, "steps_per_sample=2: Batches learns from"),
    "no steps": (Samples, {"steps_per_sample": 0}, WrongTypeError, "steps_per_sample=0: give a whole number"),
    "negative seed": (Samples, {"order_seed": -1}, WrongTypeError, "order_seed=-1: give a whole number of at least 0"),
    "no epoch": (Samples, {"epoch_samples": 0}, WrongTypeError, "epoch_samples=0: give a whole number of at least 1"),
    "order of numbers": (
        Batches,
        {"order": "blocked", "train": (INPUTS, INPUTS[:, :2])},
        MismatchError,
        "order 'blocked' goes by classes",
    ),
    "one class": (Samples, {"train": (INPUTS, LABELS * 0)}, LabelError, "one class"),
    "order of a loader": (
        Samples,
        {"order": "blocked", "train": LOADER},
        MismatchError,
        "order='blocked': a loader gi",
    ),
    "seed of a loader": (
        Batches,
        {"order_seed": 0, "train": LOADER},
        MismatchError,
        "order_seed=0: a loader gives its",
    ),
    "epoch of a loader": (
        Batches,
        {"epoch_samples": 3, "train": LOADER},
        MismatchError,
        "epoch_samples=3: a loader gi",
    ),
    "batches of a loader": (
        Samples,
        {"train": LOADER},
        MismatchError,
        "the loader gives batches of 7, and the rule le",
    ),
    "only waiting": (
        lambda: Samples(waits=9),
        {},
        MismatchError,
        "Samples still waited .* 7 steps; give more samples, or a larger epoch_samples",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_presented_is_one_line(name):
    rule, options, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words) as caught:
        fit(rule(), **options)
    assert "\n" not in str(caught.value)


def test_batch_norm_in_train_mode_takes_no_single_samples():
    one = infohebb.Learner(nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)), Samples())
    with pytest.raises(MismatchError, match=r"too few for batch norm in train mode; call eval\(\) on it"):
        infohebb.fit(one, (INPUTS, LABELS), epochs=1, progress=False)
    one.model[1].eval()
    assert infohebb.fit(one, (INPUTS, LABELS), epochs=1, progress=False)["samples"] == [7]


def networks(count=3):
    torch.manual_seed(5)
    return [plain.MLP(8, 2, (6, 5)).double() for _ in range(count)]


def stacked(rule=infohebb.HSICBottleneck):
    return infohebb.Learner(plain.stack_networks(networks()), rule())


def test_what_needs_one_number_names_the_stacked_networks():
    one = stacked()
    optimizer = torch.optim.SGD(one.param_groups(), lr=0.1)
    with pytest.raises(
        MismatchError, match="ReduceLROnPlateau needs one loss, and the 3 stacked networks have one each"
    ):
        infohebb.fit(one, (INPUTS, LABELS), epochs=1, scheduler=ReduceLROnPlateau(optimizer), progress=False)
    with pytest.raises(MismatchError, match="no number to compare; monitor another curve"):
        infohebb.fit(stacked(), (INPUTS, LABELS), epochs=1, callbacks=EarlyStopping(monitor="train_loss"))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("readout", "epoch 1, step 1: the label loss of network 1 is not finite"),
        ("layers.0", "epoch 1, step 1: the objective of unit layers.0 of network 1 is not finite"),
    ],
)
def test_the_stacked_network_that_is_not_finite_is_named(layer, words):
    one = stacked()
    with torch.no_grad():
        next(one.model.get_submodule(layer).parameters())[1] = torch.inf
    with pytest.raises(NonFiniteLossError, match=words):
        infohebb.fit(one, (INPUTS, LABELS), epochs=1, progress=False)


@pytest.mark.parametrize("numbers", [False, True], ids=["labels", "numbers"])
def test_stacked_networks_have_a_number_each(numbers):
    inputs = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)).double()
    data = (inputs, inputs[:, :2] if numbers else (inputs[:, 0] > 0).long())

    def run(learner):
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(learner.param_groups(), lr=0.5)
        return infohebb.fit(learner, data, data, epochs=2, batch=25, optimizer=optimizer, callbacks=[Progress()])

    curves = run(stacked())
    for place, single in enumerate(networks()):
        own = run(infohebb.Learner(single, infohebb.HSICBottleneck()))
        mine = dict(curves_of(split_curves(curves, place)))
        assert {"validation_error" if numbers else "validation_accuracy", "validation_loss"} <= mine.keys()
        for name, values in curves_of(own):
            assert name == "seconds" or mine[name] == pytest.approx(values, rel=1e-9), name
    last = dict(last_numbers(curves, 2))
    assert [last[f"train_loss/{network}"] for network in range(3)] == curves["train_loss"][1]
