"""Samples in time: windows that slide over them one by one, each held for some steps, in the order of a life.

A window of one sample is a stimulus; of more, the last one is current and the others are what is remembered.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from infohebb.data.dataset import Split
from infohebb.errors import EmptyBatchError, LabelError, MismatchError, is_whole, unknown_name

DRIFT = 3.0  # classes that are met at about the same time while they drift by

Labels = Int64[Tensor, "n"]
Order = Int64[Tensor, "n"]


class Presented(NamedTuple):
    """What is there at one time step: a window of samples (w, ...) with their targets, and whether it has just come."""

    inputs: Tensor
    targets: Tensor
    onset: bool


def random_order(labels: Labels, chance: torch.Generator | None) -> Order:
    """Any order."""
    return torch.randperm(len(labels), generator=chance)


def balanced_order(labels: Labels, chance: torch.Generator | None) -> Order:
    """Each class in turn, as long as it has samples, in any order within the class."""
    order = random_order(labels, chance)
    of_class = labels[order].argsort(stable=True)  # all of class 0, then of class 1, …
    counts = labels.bincount()
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order][of_class]]
    return order[of_class[rank.argsort(stable=True)]]


def blocked_order(labels: Labels, chance: torch.Generator | None) -> Order:
    """All of one class, then all of the next, in any order within the class."""
    order = random_order(labels, chance)
    return order[labels[order].argsort(stable=True)]


def drifting_order(labels: Labels, chance: torch.Generator | None) -> Order:
    """Classes come and go slowly, one after the other, about DRIFT of them at a time."""
    return (labels + DRIFT * torch.rand(len(labels), generator=chance)).argsort()


ORDERS: dict[str, Callable[[Labels, torch.Generator | None], Order]] = {
    "random": random_order,
    "balanced": balanced_order,
    "blocked": blocked_order,
    "drifting": drifting_order,
}


def arrange(targets: Tensor, order: str = "random", chance: torch.Generator | None = None) -> Order:
    """The order (n) of one pass over samples with these targets, drawn on the CPU.

    Raises UnknownNameError, LabelError for labels of a single class, MismatchError for orders by class of numbers.
    """
    if order not in ORDERS:
        raise unknown_name("order", str(order), ORDERS)
    if targets.is_floating_point():
        if order != "random":
            raise MismatchError(f"order {order!r} goes by classes, and these targets are numbers; take 'random'")
        return torch.randperm(len(targets), generator=chance)
    labels = targets.cpu()
    if len(labels) and bool((labels == labels[0]).all()):
        raise LabelError("a stream of one class only, in which there is nothing to tell apart; give two or more")
    return ORDERS[order](labels, chance)


def order_of_pass(targets: Tensor, order: str, seed: int, turn: int) -> Order:
    """The order (n) of pass `turn` (0, 1, …) of an endless stream: any pass can be drawn without those before it.

    Raises the errors of `arrange`.
    """
    (drawn,) = np.random.SeedSequence((seed, turn)).generate_state(1, np.uint64)
    return arrange(targets, order, torch.Generator().manual_seed(int(drawn)))


def stretches(epoch: int, count: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Where epoch 1, 2, … of `count` windows lies in endless passes of `length` each: (pass, from, up to) in turn."""
    start, end = (epoch - 1) * count, epoch * count
    while start < end:
        turn, first = divmod(start, length)
        last = min(length, first + end - start)
        yield turn, first, last
        start += last - first


def windows(ordered: Split, window: int) -> Iterator[Split]:
    """Views of `window` samples each, sliding by one over n samples in order: n - window + 1 of them.  [WMH 4.1]"""
    views = (part.unfold(0, window, 1).movedim(-1, 1).unbind(0) for part in ordered)
    return (Split(*view) for view in zip(*views, strict=True))


def check_window(samples: int, window: int) -> None:
    """Raise EmptyBatchError, or MismatchError for windows that do not fit into that many samples."""
    if samples == 0:
        raise EmptyBatchError("no samples to make a stream of; give at least 1")
    if window > samples:
        raise MismatchError(f"windows of {window} samples do not fit into {samples}; take shorter ones, or more data")


def stream(
    split: Split, window: int = 1, order: str = "random", hold: int = 1, chance: torch.Generator | None = None
) -> Iterator[Presented]:
    """One pass over the samples: n - window + 1 windows, each for `hold` time steps; views where it can be.

    Raises EmptyBatchError, MismatchError for windows longer than the data, and the errors of `arrange`.
    """
    for name, number in (("window", window), ("hold", hold)):
        if not is_whole(number) or number < 1:
            raise MismatchError(f"{name} {number!r}: give a whole number of at least 1")
    check_window(len(split.targets), window)
    return _present(split.select(arrange(split.targets, order, chance)), window, hold)


def _present(ordered: Split, window: int, hold: int) -> Iterator[Presented]:
    for inputs, targets in windows(ordered, window):
        for step in range(hold):
            yield Presented(inputs, targets, step == 0)
