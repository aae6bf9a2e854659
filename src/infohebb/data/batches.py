"""Batches as indices: the data stay where they are, on the device, and a batch is one selection."""

from collections.abc import Iterator

import torch

from infohebb.data.dataset import Split
from infohebb.errors import EmptyBatchError


def batches(split: Split, size: int, *, shuffle: bool, generator: torch.Generator | None = None) -> Iterator[Split]:
    """One pass over `split` in batches of `size`, the last one smaller if it must be.

    The order is drawn here, on the CPU (from `generator`, else torch's global one), so that a seed gives the same
    batches on every device. Without shuffling, batches are views. Raises EmptyBatchError as `count_batches` does.
    """
    samples = len(split.targets)
    count_batches(samples, size)
    if not shuffle:
        return (Split(*parts) for parts in zip(split.inputs.split(size), split.targets.split(size), strict=True))
    order = torch.randperm(samples, generator=generator).to(split.inputs.device)
    return (split.select(index) for index in order.split(size))


def count_batches(samples: int, size: int) -> int:
    """How many batches of `size` one pass over `samples` takes; EmptyBatchError where either is less than one."""
    if size < 1:
        raise EmptyBatchError(f"batch size {size} holds no samples; give at least 1")
    if samples < 1:
        raise EmptyBatchError("no samples to make batches of; give at least 1")
    return -(-samples // size)
