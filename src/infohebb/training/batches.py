"""Batches for `fit`: arrays, a DataSet or any loader, on the model's device and in its precision."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from infohebb.data import DataSet, Split, batches, count_batches
from infohebb.data.arrays import as_inputs, as_targets, check_labels, check_lengths
from infohebb.errors import EmptyBatchError, LabelError, MismatchError, NonFiniteDataError

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
    """Batches of samples that lie on the device, in random order if `shuffle`, from torch's global generator.

    Each iteration is one pass; `source` is what the user gave.
    """

    source: Any
    split: Split
    size: int
    home: Home
    shuffle: bool
    normalise: Callable[[Tensor], Tensor] | None = None
    augment: Callable[[Tensor], Tensor] | None = None
    unpack: Unpack | None = None

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches of one pass, augmented if the data set asks for it and they are shuffled."""
        for inputs, targets in batches(self.split, self.size, shuffle=self.shuffle):
            yield self._ready(self.augment(inputs) if self.augment and self.shuffle else inputs, targets)

    def count(self) -> int:
        """Return the number of batches in a pass."""
        return count_batches(len(self.split.targets), self.size)

    def sample(self, size: int | None = None) -> Batch:
        """Return one batch, or `size` samples, drawn by a generator of its own."""
        size = min(self.size if size is None else size, len(self.split.targets))
        drawn = batches(self.split, size, shuffle=True, generator=torch.Generator().manual_seed(0))
        return self._ready(*next(drawn))

    def _ready(self, inputs: Tensor, targets: Tensor) -> Batch:
        inputs = inputs if self.normalise is None else self.normalise(inputs)
        batch = (inputs, targets)
        return self.home.place(batch if self.unpack is None else check_pair(self.unpack(batch), "unpack() gave"))


@dataclass(frozen=True, eq=False)
class LoaderBatches:
    """Batches of a loader, or of any other iterable that can be read again."""

    source: Iterable[Any]
    home: Home
    unpack: Unpack | None = None

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

    def count(self) -> int | None:
        """Return the loader's length; None for one that has none, such as a DataLoader of an IterableDataset."""
        try:
            return len(self.source)  # pyright: ignore[reportArgumentType]
        except TypeError:
            return None

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


Batches = ArrayBatches | LoaderBatches


def as_batches(
    data: Any, size: int, home: Home, *, shuffle: bool = True, unpack: Unpack | None = None, name: str = "train"
) -> Batches:
    """Return batches of (x, y), of a DataSet's training samples (its test samples without `shuffle`) or of a loader.

    Raises MismatchError and the errors of what is wrong in arrays.
    """
    if isinstance(data, DataSet):
        return _of_data_set(data, size, home, shuffle, unpack, name)
    of_arrays = isinstance(data, tuple) and not all(isinstance(part, tuple) for part in data)
    if of_arrays and len(data) == 2:
        return _of_arrays(data, size, home, shuffle, unpack, name)
    if of_arrays and len(data) == 4:
        raise MismatchError(f"{name} has four parts; give fit(learner, (x, y), (x_validation, y_validation))")
    if isinstance(data, (Tensor, np.ndarray, str, Mapping)) or not isinstance(data, Iterable):
        loader = "; a Dataset goes in a DataLoader(dataset, batch_size=...)" if hasattr(data, "__getitem__") else ""
        raise MismatchError(f"{name} is a {type(data).__name__}; give (x, y), a DataSet or a loader of batches{loader}")
    return LoaderBatches(data, home, unpack)


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
