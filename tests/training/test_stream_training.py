"""Rules that learn from a stream: what they are given, step by step, whatever interrupts it."""

import pytest
import torch
from training_toys import Diary, StreamDiary, network, same, weights

from infohebb import Backprop, train
from infohebb.data import DataSet, Split
from infohebb.data.streams import order_of_pass
from infohebb.errors import EmptyBatchError, LabelError, MismatchError
from infohebb.training import sources
from infohebb.training.loop import Checkpoints

LABELS = torch.tensor([0, 1, 1, 0, 1, 0, 1])
INPUTS = torch.arange(7.0)[:, None].expand(7, 8).contiguous()
OPTIMIZER = {"name": "sgd", "lr": 0.01}


def shown(consumes, epochs=1, targets=LABELS, **options):
    """(first numbers of the samples, targets, onset) of each step, and the curves."""
    diary = StreamDiary(consumes)
    options = {"optimizer": OPTIMIZER, **options}
    curves = train(network(), diary, (INPUTS, targets), epochs=epochs, **options)
    return diary.steps, curves


def order(seed, turn, name="random"):
    return order_of_pass(LABELS, name, seed, turn).tolist()


def test_samples_come_one_by_one_each_held_with_one_onset():
    steps, curves = shown("sample", batch=1, steps_per_sample=3, order_seed=5)
    wanted = [([float(i)], [int(LABELS[i])], step == 0) for i in order(5, 0) for step in range(3)]
    assert steps == wanted
    assert curves["samples"] == [7]


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_windows_slide_by_one_within_a_pass_whatever_is_made_ready_at_a_time(chunk, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", chunk)
    steps, curves = shown("window", batch=3, epochs=2, order_seed=5)
    orders = [order(5, turn) for turn in (0, 1)]
    assert orders[0] != orders[1]
    assert [step[0] for step in steps] == [each[i : i + 3] for each in orders for i in range(5)]
    assert [step[1] for step in steps] == [LABELS[each[i : i + 3]].tolist() for each in orders for i in range(5)]
    assert curves["samples"] == [5, 10]
    assert len(curves["train_loss"]) == 2


def test_an_epoch_of_any_length_goes_on_where_the_last_one_stopped():
    whole, _ = shown("window", batch=3, epochs=3, order_seed=5)
    parts, curves = shown("window", batch=3, epochs=5, epoch_samples=3, order_seed=5)
    assert parts == whole
    assert curves["samples"] == [3, 6, 9, 12, 15]
    long, curves = shown("window", batch=3, epochs=1, epoch_samples=15, order_seed=5)
    assert long == whole
    assert curves["samples"] == [15]


@pytest.mark.parametrize("name", ["balanced", "blocked", "drifting"])
def test_orders_go_by_class(name):
    steps, _ = shown("sample", batch=1, order=name, order_seed=2)
    assert [step[0] for step in steps] == [[float(i)] for i in order(2, 0, name)]


def test_the_order_is_shared_by_seeds_only_if_it_has_a_seed():
    assert shown("sample", batch=1, seed=1)[0] == shown("sample", batch=1, seed=1)[0]
    assert shown("sample", batch=1, seed=1)[0] != shown("sample", batch=1, seed=2)[0]
    shared = [shown("sample", batch=1, seed=seed, order_seed=0)[0] for seed in (1, 2)]
    assert shared[0] == shared[1]


def test_batches_follow_a_course_too():
    diary = Diary()
    options = {"order": "blocked", "order_seed": 3, "epoch_samples": 5, "optimizer": OPTIMIZER}
    curves = train(network(), diary, (INPUTS, LABELS), epochs=2, batch=4, **options)
    seen = [event[3][:, 0].tolist() for event in diary.events if event[0] == "learn"]
    wanted = order(3, 0, "blocked") + order(3, 1, "blocked")[:3]
    assert seen == [wanted[:4], wanted[4:5], wanted[5:9], wanted[9:]]
    assert curves["samples"] == [5, 10]


def test_batches_without_a_course_are_shuffled_by_the_trainings_own_random_numbers():
    diary = Diary()
    train(network(), diary, (INPUTS, LABELS), epochs=1, batch=4, seed=3, optimizer=OPTIMIZER)
    seen = [number for event in diary.events if event[0] == "learn" for number in event[3][:, 0].tolist()]
    torch.manual_seed(3)
    assert seen == torch.randperm(7).tolist()


def test_steps_that_wait_count_for_nothing():
    diary = StreamDiary("sample", waits=4)
    curves = train(network(), diary, (INPUTS, LABELS), epochs=1, batch=1, order_seed=1, optimizer=OPTIMIZER)
    learned = [float(i) for i in order(1, 0)[4:]]
    assert curves["train_loss"] == pytest.approx([sum(learned) / 3])
    assert curves["train_accuracy"] == [100.0]
    assert curves["samples"] == [7]


def test_windows_are_augmented_one_by_one_at_their_onset_and_normalised():
    drawn = []

    def augment(raw):
        drawn.append(len(raw))
        return raw + 100 * len(drawn)

    raw = Split((INPUTS * 10).to(torch.uint8)[:, :8], LABELS)
    dataset = DataSet("raw", raw, None, 2, normalise=lambda x: x.float() / 10, augment=lambda x: augment(x.float()))
    diary = StreamDiary("window")
    train(network(), diary, dataset, epochs=1, batch=2, steps_per_sample=2, order_seed=0, optimizer=OPTIMIZER)
    assert drawn == [2] * 6
    first = order(0, 0)
    wanted = [[first[i] + 10.0 * (i + 1), first[i + 1] + 10.0 * (i + 1)] for i in range(6) for _ in range(2)]
    assert [step[0] for step in diary.steps] == [pytest.approx(pair) for pair in wanted]


@pytest.mark.parametrize("order_seed", [None, 4])
def test_a_stream_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path, order_seed):
    options = {"batch": 1, "epoch_samples": 4, "order_seed": order_seed, "seed": None, "optimizer": OPTIMIZER}
    whole, diary, kept = network(), StreamDiary("sample", noise=True), Checkpoints(tmp_path)
    torch.manual_seed(1)
    curves = train(whole, diary, (INPUTS, LABELS), epochs=5, **options)

    part, first = network(), StreamDiary("sample", noise=True)
    torch.manual_seed(1)
    train(part, first, (INPUTS, LABELS), epochs=2, checkpoints=kept, **options)
    torch.manual_seed(99)  # what the caller draws meanwhile
    part, second = network(), StreamDiary("sample", noise=True)
    resumed = train(part, second, (INPUTS, LABELS), epochs=5, checkpoints=kept, **options)
    assert first.steps + second.steps == diary.steps
    assert same(weights(part), weights(whole))
    assert all(resumed[name] == curves[name] for name in curves if name != "seconds")
    assert resumed["samples"] == [4, 8, 12, 16, 20]


def test_long_epochs_are_summed_up_on_the_way(monkeypatch):
    from infohebb.training import epoch

    _, curves = shown("window", batch=3, epoch_samples=40, order_seed=5)
    monkeypatch.setattr(epoch, "FOLD", 7)
    _, folded = shown("window", batch=3, epoch_samples=40, order_seed=5)
    assert folded["train_loss"] == pytest.approx(curves["train_loss"], rel=1e-12)
    assert folded["train_accuracy"] == curves["train_accuracy"]


ONE_CLASS = torch.zeros(7, dtype=torch.int64)


@pytest.mark.parametrize(
    ("error", "words", "consumes", "options"),
    [
        (MismatchError, "StreamDiary learns from one sample at a time: give batch = 1, not 256", "sample", {}),
        (MismatchError, "windows of 8 samples do not fit into 7", "window", {"batch": 8}),
        (EmptyBatchError, "batch size 0", "window", {"batch": 0}),
        (LabelError, "one class", "sample", {"batch": 1, "targets": ONE_CLASS}),
        (MismatchError, "order 'blocked' goes by classes", "sample", {"batch": 1, "order": "blocked", "targets": None}),
        (MismatchError, "give more samples, or a larger epoch_samples", "wait", {"batch": 1}),
    ],
)
def test_what_cannot_be_presented_is_named(error, words, consumes, options):
    targets = options.pop("targets", LABELS)
    targets = torch.rand(7, 2) if targets is None else targets
    diary = StreamDiary("sample", waits=99) if consumes == "wait" else StreamDiary(consumes)
    with pytest.raises(error, match=words) as caught:
        train(network(), diary, (INPUTS, targets), epochs=1, **{"optimizer": OPTIMIZER, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (StreamDiary("sample"), {"batch": 1}),
        (Backprop(), {"order": "blocked"}),
        (Backprop(), {"order_seed": 0}),
        (Backprop(), {"epoch_samples": 10}),
    ],
)
def test_a_loader_has_an_order_of_its_own(rule, options):
    with pytest.raises(MismatchError, match="a loader gives batches in an order of its own"):
        train(network(), rule, [(INPUTS, LABELS)], epochs=1, **options)
