"""Where batches come from: a data set on the device, a user's arrays, or any loader of batches."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from infohebb.data import DataSet, Split, batches, count_batches, from_arrays
from infohebb.data.streams import Presented, arrange, check_window, order_of_pass, stretches, windows
from infohebb.errors import EmptyBatchError, LabelError, MismatchError, NonFiniteDataError

Pair = tuple[Tensor, Tensor]
Data = DataSet | Sequence | Iterable
CHUNK = 4096  # samples of a stream that are made ready at a time


@dataclass(frozen=True)
class Course:
    """In what order samples come, and how many make an epoch (None: one pass); `hold` of a stream, 0 for batches."""

    order: str = "random"
    seed: int | None = None  # of the order
    epoch_samples: int | None = None
    hold: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether samples come in batches as the training's own random numbers shuffle them."""
        return self == Course()


class Source(Protocol):
    """Batches ready for a network: normalised, of its precision, on the device."""

    def training(self, epoch: int = 1, order_seed: int | None = None) -> Iterator[Pair] | Iterator[Presented]:
        """The steps of an epoch; without a seed for its order, one pass in random order."""
        ...

    def held_out(self) -> Iterable[Pair] | None:
        """The test or validation data, or None."""
        ...

    def sample(self, size: int | None = None) -> Pair:
        """So many training samples, or one batch of them, always the same and not augmented."""
        ...

    def checksum(self) -> int | None:
        """What tells these training data from others, if anybody knows."""
        ...

    def __len__(self) -> int:
        """Steps in an epoch; 0 if nobody knows."""
        ...


@dataclass(frozen=True)
class DataSetSource:
    """Batches of a data set that lives on the device."""

    data: DataSet
    size: int
    dtype: torch.dtype = torch.float32
    course: Course = field(default_factory=Course)

    def training(self, epoch: int = 1, order_seed: int | None = None) -> Iterator[Pair]:
        """Batches, augmented if the data set asks for it: in random order, or as their course and seed have it."""
        shuffled = batches(self.data.train, self.size, shuffle=True) if order_seed is None else None
        for inputs, targets in shuffled or self._ordered(epoch, order_seed or 0):
            raw = inputs if self.data.augment is None else self.data.augment(inputs)
            yield self.ready(raw, targets)

    def _ordered(self, epoch: int, seed: int) -> Iterator[Split]:
        train, order = self.data.train, self.course.order
        parts = stretches(epoch, self._per_epoch, len(train.targets))
        index = [order_of_pass(train.targets, order, seed, turn)[first:last] for turn, first, last in parts]
        return (train.select(part) for part in torch.cat(index).split(self.size))

    @property
    def _per_epoch(self) -> int:
        return self.course.epoch_samples or len(self.data.train.targets)

    def held_out(self) -> Iterator[Pair] | None:
        """Batches of the test samples."""
        return None if self.data.test is None else self._plain(self.data.test)

    def _plain(self, split: Split) -> Iterator[Pair]:
        for inputs, targets in batches(split, 1024, shuffle=False):
            yield self.ready(inputs, targets)

    def ready(self, inputs: Tensor, targets: Tensor) -> Pair:
        """A raw batch, normalised and of the network's precision."""
        return self.data.normalise(inputs).to(self.dtype), in_precision(targets, self.dtype)

    def final_training(self) -> Iterator[Pair]:
        """The training samples as they are, in order: for a last score."""
        return self._plain(self.data.train)

    def sample(self, size: int | None = None) -> Pair:
        """Drawn by a generator of its own: as stored, samples may be sorted by class."""
        size = self.size if size is None else min(size, len(self.data.train.targets))
        drawn = batches(self.data.train, size, shuffle=True, generator=torch.Generator().manual_seed(0))
        return self.ready(*next(drawn))

    def __len__(self) -> int:
        return count_batches(self._per_epoch, self.size)

    def checksum(self) -> int:
        """Of the training samples and targets as they are stored."""
        first, second = (tensor.cpu().contiguous().numpy().data for tensor in self.data.train)
        return zlib.crc32(second, zlib.crc32(first))


@dataclass(frozen=True)
class StreamSource:
    """Windows that slide over a data set's samples, each held for some time steps; scores are of its batches."""

    batches: DataSetSource
    window: int
    course: Course

    def training(self, epoch: int = 1, order_seed: int | None = None) -> Iterator[Presented]:
        """The epoch's windows, which never reach from one pass into the next; augmented each by itself at its onset."""
        train, past = self.batches.data.train, self.window - 1
        for turn, first, last in stretches(epoch, self._per_epoch, self._per_pass):
            order = order_of_pass(train.targets, self.course.order, order_seed or 0, turn)
            for start in range(first, last, CHUNK):
                chunk = train.select(order[start : min(start + CHUNK, last) + past])
                for inputs, targets in self._shown(chunk):
                    for step in range(self.course.hold):
                        yield Presented(inputs, targets, step == 0)

    def _shown(self, chunk: Split) -> Iterator[Pair]:
        augment, ready = self.batches.data.augment, self.batches.ready
        if augment is None:
            return windows(Split(*ready(*chunk)), self.window)
        return (ready(augment(inputs), targets) for inputs, targets in windows(chunk, self.window))

    @property
    def _per_pass(self) -> int:
        return len(self.batches.data.train.targets) - self.window + 1

    @property
    def _per_epoch(self) -> int:
        return self.course.epoch_samples or self._per_pass

    def held_out(self) -> Iterator[Pair] | None:
        """Batches of the test samples."""
        return self.batches.held_out()

    def final_training(self) -> Iterator[Pair]:
        """The training samples as they are, in order: for a last score."""
        return self.batches.final_training()

    def sample(self, size: int | None = None) -> Pair:
        """So many samples, or as many as a window has, always the same."""
        return self.batches.sample(size)

    def checksum(self) -> int:
        """Of the training samples and targets as they are stored."""
        return self.batches.checksum()

    def __len__(self) -> int:
        return self._per_epoch * self.course.hold


@dataclass(frozen=True)
class LoaderSource:
    """Batches of pairs from a user's loader, checked as they come and moved to the device."""

    loader: Iterable
    device: torch.device
    dtype: torch.dtype = torch.float32

    def training(self, epoch: int = 1, order_seed: int | None = None) -> Iterator[Pair]:
        """The loader's batches.  Raises MismatchError, LabelError, NonFiniteDataError, EmptyBatchError."""
        del epoch, order_seed
        empty = True
        for batch in self.loader:
            empty = False
            inputs, targets = check_pair(batch)
            yield inputs.to(self.device, self.dtype), in_precision(targets, self.dtype).to(self.device)
        if empty:
            raise EmptyBatchError(
                "the loader gave no batches; a generator can be read once only, give a list or loader"
            )

    def held_out(self) -> None:
        """A loader holds nothing out."""

    def final_training(self) -> Iterator[Pair]:
        """The loader's batches once more."""
        return self.training()

    def sample(self, size: int | None = None) -> Pair:
        """Raises MismatchError: to read from a loader may change what it gives next."""
        del size
        raise MismatchError("a loader has no batch to set apart for diagnose; give arrays (x, y) or a DataSet")

    def checksum(self) -> None:
        """Nobody knows what a loader will give."""

    def __len__(self) -> int:
        return len(self.loader) if hasattr(self.loader, "__len__") else 0  # pyright: ignore[reportArgumentType]


def in_precision(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in the network's precision, class indices as they are."""
    return targets.to(dtype) if targets.is_floating_point() else targets


def check_pair(batch: object) -> Pair:
    """Inputs and targets of a loader's batch.  Raises MismatchError, LabelError, NonFiniteDataError."""
    if not (isinstance(batch, Sequence) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)):
        raise MismatchError(f"a loader's batch must be a pair of tensors (inputs, targets), not {type(batch).__name__}")
    inputs, targets = batch
    if len(inputs) != len(targets):
        raise MismatchError(f"{len(inputs)} inputs but {len(targets)} targets in one batch of the loader")
    if not inputs.is_floating_point():
        inputs = inputs.float()
    if not bool(inputs.isfinite().all()):
        raise NonFiniteDataError("NaN or infinity in a batch of the loader's inputs")
    if targets.is_floating_point():
        if not bool(targets.isfinite().all()):
            raise NonFiniteDataError("NaN or infinity in a batch of the loader's targets")
        return inputs, targets[:, None] if targets.dim() == 1 else targets
    if targets.dim() != 1:
        raise LabelError(f"a loader's labels have shape {tuple(targets.shape)}; give one label per sample")
    return inputs, targets.long()


def as_source(
    data: Data, size: int, device: torch.device, dtype: torch.dtype = torch.float32, course: Course | None = None
) -> DataSetSource | StreamSource | LoaderSource:
    """A source of batches of `size` from a DataSet, a pair (x, y), four arrays (x, y, x_test, y_test), or a loader.

    By a course with `hold` it is a stream of windows of that size. Raises the errors of `from_arrays`, EmptyBatchError,
    MismatchError, and the errors of `arrange`.
    """
    data, course = as_data_set(data), course or Course()
    if isinstance(data, DataSet):
        count_batches(len(data.train.targets), size)
        if not course.is_plain:
            arrange(data.train.targets, course.order, torch.Generator())
        source = DataSetSource(data.to(device), size, dtype, course)
        if course.hold:
            check_window(len(data.train.targets), size)
            return StreamSource(source, size, course)
        return source
    if not isinstance(data, Iterable):
        raise MismatchError(f"data of type {type(data).__name__}: give (x, y), a DataSet, or a loader of such pairs")
    if not course.is_plain:
        raise MismatchError(
            "a loader gives batches in an order of its own, not a stream, nor an order or epoch_samples that are asked "
            "for; give arrays (x, y) or a DataSet"
        )
    return LoaderSource(data, device, dtype)


def as_data_set(data: Data) -> Data:
    """A pair or four arrays as a DataSet, everything else as it is.  Raises the errors of `from_arrays`."""
    return from_arrays(*data) if isinstance(data, tuple) and len(data) in (2, 4) else data


def check_classes(data: Data) -> Data:
    """The data, as `as_data_set`.  Raises LabelError for labels of one class, from which nothing can be learned."""
    data = as_data_set(data)
    if isinstance(data, DataSet) and data.classes == 1:
        raise LabelError("all labels are of one class, so there is nothing to tell apart; give two classes or more")
    return data


def hold_out_validation(data: Data) -> DataSet:
    """A tenth of the training samples in the place of the test samples, which are not read.  Raises MismatchError."""
    data = as_data_set(data)
    if not isinstance(data, DataSet):
        raise MismatchError("a loader has no validation split; give arrays (x, y) or a DataSet, or held_out='test'")
    return data.validation()
