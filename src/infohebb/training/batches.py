"""Batches for `fit`: arrays, a DataSet or any loader, on the model's device and in its precision."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from infohebb.data import DataSet, Split, batches, count_batches
from infohebb.data.arrays import as_inputs, as_targets, check_labels, check_lengths
from infohebb.data.streams import windows
from infohebb.errors import EmptyBatchError, LabelError, MismatchError, NonFiniteDataError
from infohebb.training.sampling import (
    PLAIN,
    Presented,
    SamplingConfig,
    check_sampling,
    count_presented,
    ordered_batches,
    ordered_chunks,
    refuse_loader,
)

Batch = tuple[Any, Tensor]  # inputs: a tensor, a tuple of arguments or a mapping of keyword arguments; targets
Unpack = Callable[[Any], Any]  # a loader's batch -> (inputs, targets)
SAMPLE = 2000  # samples at most of a batch on which something is measured


@dataclass(frozen=True)
class Home:
    """Where a model lives: its device, its floating-point type, and the number of its classes if that is known."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    classes: int | None = None

    def place(self, batch: Batch) -> Batch:
        """Return the batch on the device; floating-point numbers and uint8 images take the model's type.

        Other integers (token ids) and booleans (masks) stay what they are.
        """
        inputs, targets = batch
        keep = self._targets_type(targets)
        if isinstance(inputs, Tensor):
            return self._moved(inputs), keep
        if isinstance(inputs, Mapping):
            return {key: tree_map(self._moved, value) for key, value in inputs.items()}, keep
        return tree_map(self._moved, inputs), keep

    def _moved(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        floating = leaf.is_floating_point() or leaf.dtype == torch.uint8
        return leaf.to(self.device, self.dtype if floating else leaf.dtype, non_blocking=True)

    def _targets_type(self, targets: Tensor) -> Tensor:
        dtype = self.dtype if targets.is_floating_point() else torch.int64
        return targets.to(self.device, dtype, non_blocking=True)


@dataclass(frozen=True, eq=False)
class ArrayBatches:
    """Batches or a stream of samples that lie on the device; `source` is what the user gave.

    Each iteration is one pass in batches of `size`, in random order if `shuffle`, from torch's global generator;
    `training` gives the steps of an epoch as `sampling` has them. A stream has windows of `size` samples.
    """

    source: Any
    split: Split
    size: int
    home: Home
    shuffle: bool
    normalise: Callable[[Tensor], Tensor] | None = None
    augment: Callable[[Tensor], Tensor] | None = None
    unpack: Unpack | None = None
    sampling: SamplingConfig = PLAIN

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches of one pass, augmented if the data set asks for it and they are shuffled."""
        for inputs, targets in batches(self.split, self.size, shuffle=self.shuffle):
            yield self._augmented(inputs, targets) if self.shuffle else self._ready(inputs, targets)

    def training(self, epoch: int = 1, seed: int | None = None) -> Iterator[Presented]:
        """Return the steps of epoch 1, 2, …; `seed` draws their order unless `sampling` is plain."""
        return _presented(self._epoch(epoch, seed or 0), self.sampling.steps_per_sample)

    def _epoch(self, epoch: int, seed: int) -> Iterator[Batch]:
        if self.sampling.is_plain:
            return iter(self)
        if self.sampling.is_stream:
            return self._windows(ordered_chunks(self.split, self.size, self.sampling, epoch, seed))
        drawn = ordered_batches(self.split, self.size, self.sampling, epoch, seed)
        return (self._augmented(inputs, targets) for inputs, targets in drawn)

    def _windows(self, chunks: Iterator[Split]) -> Iterator[Batch]:
        """Return windows; what acts on each by itself, as augmentation does, sees it alone."""
        for chunk in chunks:
            if self.augment is None and self.unpack is None:
                yield from windows(Split(*self._ready(*chunk)), self.size)
            else:
                for inputs, targets in windows(chunk, self.size):
                    yield self._augmented(inputs, targets)

    def count(self) -> int:
        """Return the number of steps in an epoch."""
        presented = count_presented(len(self.split.targets), self.size, self.sampling)
        if self.sampling.is_stream:
            return presented * self.sampling.steps_per_sample
        return count_batches(presented, self.size)

    def needs_seed(self) -> bool:
        """Whether orders are drawn from a seed of their own."""
        return not self.sampling.is_plain

    def described(self) -> dict[str, Any]:
        """Return what must stay the same for a fit to be resumed."""
        return self.sampling.described(len(self.split.targets), self.size)

    def checksum(self) -> int:
        """Return what tells these samples and targets, as they are stored, from others."""
        first, second = (tensor.cpu().contiguous().numpy().data for tensor in self.split)
        return zlib.crc32(second, zlib.crc32(first))

    def sample(self, size: int | None = None) -> Batch:
        """Return one batch, or `size` samples, drawn by a generator of its own."""
        size = min(self.size if size is None else size, len(self.split.targets))
        drawn = batches(self.split, size, shuffle=True, generator=torch.Generator().manual_seed(0))
        return self._ready(*next(drawn))

    def _augmented(self, inputs: Tensor, targets: Tensor) -> Batch:
        return self._ready(inputs if self.augment is None else self.augment(inputs), targets)

    def _ready(self, inputs: Tensor, targets: Tensor) -> Batch:
        inputs = inputs if self.normalise is None else self.normalise(inputs)
        batch = (inputs, targets)
        return self.home.place(batch if self.unpack is None else check_pair(self.unpack(batch), "unpack() gave"))


@dataclass(frozen=True, eq=False)
class LoaderBatches:
    """Batches of a loader, or of any other iterable that can be read again; of a stream, its samples or windows."""

    source: Iterable[Any]
    home: Home
    unpack: Unpack | None = None
    sampling: SamplingConfig = PLAIN

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches of one pass.  Raises MismatchError, LabelError, NonFiniteDataError, EmptyBatchError."""
        empty = True
        for batch in self.source:
            empty = False
            yield self._ready(batch)
        if empty:
            raise EmptyBatchError(
                "the loader gave no batches; a generator can be read once only: give a list or loader"
            )

    def training(self, epoch: int = 1, seed: int | None = None) -> Iterator[Presented]:
        """Return the steps of an epoch, which is one pass in the loader's own order.

        Raises MismatchError for several samples where the rule learns from one at a time, and the errors of a pass.
        """
        del epoch, seed
        return _presented(map(self._single, self), self.sampling.steps_per_sample)

    def _single(self, batch: Batch) -> Batch:
        if self.sampling.consumes in ("sample", "time_step") and len(batch[1]) != 1:
            raise MismatchError(
                f"the loader gives batches of {len(batch[1])}, and the rule learns from one sample at a time; give "
                "DataLoader(..., batch_size=1)"
            )
        return batch

    def count(self) -> int | None:
        """Return the number of steps in an epoch; None for a loader without a length, as of an IterableDataset."""
        try:
            return len(self.source) * self.sampling.steps_per_sample  # pyright: ignore[reportArgumentType]
        except TypeError:
            return None

    def needs_seed(self) -> bool:
        """Return False: the loader's order is its own."""
        return False

    def described(self) -> dict[str, Any]:
        """Return what must stay the same for a fit to be resumed, as far as that is known."""
        return {**self.sampling.described(0, 0), "samples": None, "window": None}

    def checksum(self) -> None:
        """Return None: what a loader will give is not known."""

    def sample(self, size: int | None = None) -> Batch:
        """Raise MismatchError: reading from a loader may change what it gives next."""
        del size
        raise MismatchError("no batch can be set apart from a loader without changing it; give batch=(inputs, targets)")

    def _ready(self, batch: Any) -> Batch:
        if self.unpack is None:
            inputs, targets = check_pair(batch, "the loader gives")
        else:
            inputs, targets = check_pair(self.unpack(batch), "unpack() gave")
        _check_finite(inputs)
        if self.home.device.type != "cpu" and self.home.classes and not targets.is_floating_point():
            check_labels(targets.long(), self.home.classes, "targets of a batch")
        return self.home.place((inputs, targets))


def check_pair(batch: Any, who: str) -> Batch:
    """Return inputs and targets of a batch, arrays as tensors.  Raises MismatchError, LabelError."""
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        size = f" of {len(batch)}" if isinstance(batch, (tuple, list, Mapping)) else ""
        raise MismatchError(
            f"{who} a {type(batch).__name__}{size}, not a pair (inputs, targets); give unpack=function that makes one "
            "of it, such as unpack=lambda b: (b['image'], b['label'])"
        )
    inputs, targets = batch
    targets = _as_tensor(targets)
    if not isinstance(targets, Tensor):
        raise MismatchError(
            f"{who} targets of type {type(targets).__name__}; give a tensor or array, or unpack=function"
        )
    if isinstance(inputs, Mapping):
        inputs = {key: _as_tensor(value) for key, value in inputs.items()}
    else:
        inputs = tuple(map(_as_tensor, inputs)) if isinstance(inputs, (tuple, list)) else _as_tensor(inputs)
    if targets.is_floating_point():
        return inputs, targets[:, None] if targets.dim() == 1 else targets
    if targets.dim() != 1:
        raise LabelError(f"{who} labels of shape {tuple(targets.shape)}; give one label per sample, shape (m)")
    return inputs, targets


def _as_tensor(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.require(native, requirements=["C", "W"]))
    plain = isinstance(values, (list, tuple)) and values and all(isinstance(v, (int, float)) for v in values)
    return torch.tensor(values) if plain else values


def _check_finite(inputs: Any) -> None:
    """Look at batches on the CPU only: elsewhere that would wait for the device."""
    for leaf in tree_leaves(inputs):
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.device.type != "cpu":
            continue
        if not bool(leaf.sum().isfinite()) and not bool(leaf.isfinite().all()):
            raise NonFiniteDataError("NaN or infinity in a batch of the loader's inputs; leave those samples out")


def _presented(given: Iterator[Batch], steps: int) -> Iterator[Presented]:
    """Return each of them for so many steps."""
    for inputs, targets in given:
        yield inputs, targets, True
        for _ in range(steps - 1):
            yield inputs, targets, False


Batches = ArrayBatches | LoaderBatches


def is_loader(data: Any) -> bool:
    """Whether data are neither a DataSet nor arrays in a tuple."""
    return not isinstance(data, DataSet) and not _are_arrays(data)


def _are_arrays(data: Any) -> bool:
    return isinstance(data, tuple) and not all(isinstance(part, tuple) for part in data)


def as_batches(
    data: Any,
    size: int,
    home: Home,
    *,
    shuffle: bool = True,
    unpack: Unpack | None = None,
    name: str = "train",
    sampling: SamplingConfig = PLAIN,
) -> Batches:
    """Return batches of (x, y), of a DataSet's training samples (its test samples without `shuffle`) or of a loader.

    Raises MismatchError and the errors of what is wrong in arrays, or cannot be sampled so.
    """
    if isinstance(data, DataSet):
        found = _of_data_set(data, size, home, shuffle, unpack, name)
    elif _are_arrays(data) and len(data) == 2:
        found = _of_arrays(data, size, home, shuffle, unpack, name)
    else:
        _check_loader(data, name)
        refuse_loader(sampling)
        return LoaderBatches(data, home, unpack, sampling)
    check_sampling(found.split.targets, size, sampling)
    return replace(found, sampling=sampling)


def _check_loader(data: Any, name: str) -> None:
    if _are_arrays(data) and len(data) == 4:
        raise MismatchError(f"{name} has four parts; give fit(learner, (x, y), (x_validation, y_validation))")
    if isinstance(data, (Tensor, np.ndarray, str, Mapping)) or not isinstance(data, Iterable):
        loader = "; a Dataset goes in a DataLoader(dataset, batch_size=...)" if hasattr(data, "__getitem__") else ""
        raise MismatchError(f"{name} is a {type(data).__name__}; give (x, y), a DataSet or a loader of batches{loader}")


def _of_data_set(data: DataSet, size: int, home: Home, shuffle: bool, unpack: Unpack | None, name: str) -> ArrayBatches:
    split = data.train if shuffle else data.test
    if split is None:
        raise EmptyBatchError(f"{name}: the data set {data.name!r} has no test samples; give arrays (x, y)")
    count_batches(len(split.targets), size)
    normalise, augment = data.normalise, data.augment
    return ArrayBatches(data, split.to(home.device), size, home, shuffle, normalise, augment, unpack)


def _of_arrays(
    data: Sequence[Any], size: int, home: Home, shuffle: bool, unpack: Unpack | None, name: str
) -> ArrayBatches:
    inputs = as_samples(data[0], f"inputs of {name}")
    targets = as_targets(data[1], None, f"targets of {name}")
    check_lengths(inputs, targets, name)
    count_batches(len(inputs), size)
    if home.classes and not targets.is_floating_point():
        check_labels(targets, home.classes, f"targets of {name}")
    split = Split(*home.place((inputs, targets)))
    return ArrayBatches(data, split, size, home, shuffle, unpack=unpack)


def as_samples(values: Any, place: str) -> Tensor:
    """Return samples (n, ...) as floating-point numbers; integers but uint8 stay integers.

    Raises the errors of `infohebb.data.arrays.as_inputs`.
    """
    if isinstance(values, Tensor):
        whole = values.dtype in (torch.int16, torch.int32, torch.int64)
        return values.detach().long() if whole and values.numel() else as_inputs(values, place)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):  # as_inputs says what is wrong
        return as_inputs(values, place)
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1 and array.ndim and array.size:
        return torch.from_numpy(np.array(array, dtype=np.int64, order="C"))
    return as_inputs(values, place)
