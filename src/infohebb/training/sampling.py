"""In what order samples of arrays are presented, how many of them make an epoch, and for how many steps each is."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from infohebb.data import Split
from infohebb.data.streams import arrange, check_window, order_of_pass, stretches
from infohebb.errors import MismatchError
from infohebb.rules.contract import LearningRule

Presented = tuple[Any, Tensor, bool]  # inputs, targets, and whether they have just come
BATCH = 256  # samples of a step, for a rule that consumes batches, and of a batch that is scored
CHUNK = 4096  # samples of a stream that are made ready at a time


@dataclass(frozen=True)
class SamplingConfig:
    """Of the data of a fit; `order_seed` None stands for a number that the fit draws, if it needs one.

    `consumes` is the rule's. `epoch_samples` None is one pass, or of windows as many as there are in one.
    """

    order: str = "random"
    order_seed: int | None = None
    epoch_samples: int | None = None
    steps_per_sample: int = 1
    consumes: str = "batch"

    @classmethod
    def of_rule(
        cls, rule: LearningRule, order: str, order_seed: Any, epoch_samples: Any, steps_per_sample: Any
    ) -> "SamplingConfig":
        """Return that of a rule, whole numbers of NumPy as those of Python."""
        seed, samples = (value if value is None else int(value) for value in (order_seed, epoch_samples))
        return cls(str(order), seed, samples, int(steps_per_sample), rule.consumes)

    @property
    def is_stream(self) -> bool:
        """Whether samples or windows are presented one by one."""
        return self.consumes != "batch"

    @property
    def is_plain(self) -> bool:
        """Whether batches are shuffled by torch's global generator, pass by pass."""
        return self == PLAIN

    def described(self, length: int, window: int) -> dict[str, Any]:
        """Return what must stay the same for a fit to be resumed, on so many samples and windows of that length."""
        return {
            **asdict(self),
            "samples": None if self.is_plain else length,
            "window": window if self.consumes == "window" else None,
        }


PLAIN = SamplingConfig()


def batch_size(
    rule: LearningRule, given: int | None, steps: int, *, loader: bool, name: str = "steps_per_sample"
) -> int:
    """Return the number of samples per step, of arrays or of a `loader`; `name` is that of the steps per sample.

    Raises MismatchError for what cannot be presented to the rule.
    """
    who = type(rule).__name__
    if rule.consumes == "batch":
        if steps != 1:
            raise MismatchError(f"{name}={steps}: {who} learns from batches, each of which is one step; leave it out")
        return BATCH if given is None else int(given)
    if rule.consumes == "window":
        if given is None and not loader:
            raise MismatchError(f"{who} learns from windows of samples: give their length, such as batch=10")
        return 1 if given is None else int(given)
    if given not in (None, 1):
        raise MismatchError(f"{who} learns from one sample at a time: give batch=1, not {given}")
    return 1


def check_sampling(targets: Tensor, window: int, sampling: SamplingConfig) -> None:
    """Raise what `arrange` raises for targets that cannot be ordered so, and MismatchError for too long windows."""
    if not sampling.is_plain:
        arrange(targets, sampling.order, torch.Generator())
    if sampling.is_stream:
        check_window(len(targets), window)


def refuse_loader(sampling: SamplingConfig) -> None:
    """Raise MismatchError, for a loader, where an order or a number of samples is asked for."""
    for name in ("order", "order_seed", "epoch_samples"):
        value = getattr(sampling, name)
        if value != getattr(PLAIN, name):
            raise MismatchError(
                f"{name}={value!r}: a loader gives its own order and number of samples; leave it out, or give arrays "
                "(x, y) or a DataSet"
            )


def count_presented(length: int, window: int, sampling: SamplingConfig) -> int:
    """Return the number of samples, or windows, of an epoch."""
    per_pass = length - window + 1 if sampling.is_stream else length
    return sampling.epoch_samples or per_pass


def ordered_batches(split: Split, size: int, sampling: SamplingConfig, epoch: int, seed: int) -> Iterator[Split]:
    """Return the batches of epoch 1, 2, …, which goes on where the one before ended, over the ends of passes."""
    targets = split.targets
    parts = stretches(epoch, count_presented(len(targets), size, sampling), len(targets))
    index = [order_of_pass(targets, sampling.order, seed, turn)[first:last] for turn, first, last in parts]
    return (split.select(part) for part in torch.cat(index).split(size))


def ordered_chunks(split: Split, window: int, sampling: SamplingConfig, epoch: int, seed: int) -> Iterator[Split]:
    """Return samples in order, of which all windows are those of epoch 1, 2, …

    The epoch goes on where the one before ended; no window reaches from one pass into the next.
    """
    length = len(split.targets)
    count = count_presented(length, window, sampling)
    for turn, first, last in stretches(epoch, count, length - window + 1):
        order = order_of_pass(split.targets, sampling.order, seed, turn)
        for start in range(first, last, CHUNK):
            yield split.select(order[start : min(start + CHUNK, last) + window - 1])
