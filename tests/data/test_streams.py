"""Streams: every sample once a pass, in the order asked for, held with its onset; what cannot be is said."""

import itertools

import pytest
import torch

from infohebb.data import Split, arrange, stream
from infohebb.data.streams import ORDERS
from infohebb.errors import EmptyBatchError, LabelError, MismatchError, UnknownNameError

LABELS = torch.tensor([0] * 40 + [1] * 25 + [2] * 35)
SPLIT = Split(torch.arange(100.0)[:, None], LABELS)


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("order", ORDERS)
def test_each_sample_comes_once_and_the_seed_decides(order):
    seen = [int(shown.inputs) for shown in stream(SPLIT, order=order, chance=chance())]
    assert sorted(seen) == list(range(100))
    assert seen == arrange(LABELS, order, chance()).tolist()
    assert seen != arrange(LABELS, order, chance(1)).tolist()


def test_balanced_takes_each_class_in_turn_while_it_lasts():
    classes = LABELS[arrange(LABELS, "balanced", chance())].tolist()
    assert classes[:75] == [0, 1, 2] * 25
    assert classes[75:95] == [0, 2] * 10
    assert classes[95:] == [0] * 5


def test_blocked_has_one_class_after_the_other():
    assert LABELS[arrange(LABELS, "blocked", chance())].tolist() == LABELS.tolist()


def test_drifting_mixes_neighbours_and_moves_on():
    labels = torch.arange(10).repeat_interleave(200)
    classes = labels[arrange(labels, "drifting", chance())]
    early, late = classes[:200], classes[-200:]
    assert early.max() < 4
    assert late.min() > 5
    assert 1 < len(classes[900:1000].unique()) < 6


def test_windows_slide_by_one_and_end_with_the_current_sample():
    shown = list(stream(SPLIT, window=8, chance=chance()))
    order = arrange(LABELS, "random", chance())
    assert len(shown) == 93
    for first, (inputs, targets, onset) in enumerate(shown):
        assert inputs.flatten().tolist() == order[first : first + 8].tolist()
        assert torch.equal(targets, LABELS[order[first : first + 8]])
        assert onset


def test_what_is_held_has_one_onset():
    shown = list(stream(SPLIT, window=2, hold=3, chance=chance()))
    assert len(shown) == 99 * 3
    assert [each.onset for each in shown[:6]] == [True, False, False] * 2
    for one, other in itertools.pairwise(shown[:3]):
        assert torch.equal(one.inputs, other.inputs)


def test_numbers_come_in_any_order_but_by_class():
    split = Split(torch.arange(5.0)[:, None], torch.rand(5, 2))
    assert len(list(stream(split))) == 5
    with pytest.raises(MismatchError, match="order 'blocked' goes by classes"):
        stream(split, order="blocked")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"window": 101}, MismatchError, "windows of 101 samples do not fit into 100"),
        ({"window": 0}, MismatchError, "window 0: give a whole number"),
        ({"hold": 0}, MismatchError, "hold 0: give a whole number"),
        ({"order": "blokced"}, UnknownNameError, "did you mean 'blocked'"),
        ({"split": Split(torch.zeros(3, 1), torch.ones(3, dtype=torch.int64))}, LabelError, "one class only"),
        ({"split": Split(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))}, EmptyBatchError, "no samples"),
    ],
)
def test_what_cannot_be_is_said_before_anything_comes(settings, error, words):
    with pytest.raises(error, match=words):
        stream(**{"split": SPLIT, **settings})
