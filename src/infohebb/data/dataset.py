"""A data set: what was stored, how a raw batch becomes a network's input, and the splits that may be looked at."""

import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from infohebb.data.arrays import (
    Values,
    as_floating,
    as_inputs,
    as_targets,
    check_labels,
    check_lengths,
    check_same_shape,
    count_classes,
)
from infohebb.errors import CorruptFileError, EmptyBatchError, MismatchError, MissingDataError, UsageError

# What broken or hostile bytes make NumPy's reader raise.
BROKEN = (ValueError, TypeError, EOFError, OSError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


class Split(NamedTuple):
    """Samples with their targets, as stored: of a whole set or of one batch."""

    inputs: Shaped[Tensor, "n ..."]  # uint8 images (n, C, H, W), or floating (n, ...)
    targets: Shaped[Tensor, "n ..."]  # labels, int64 (n,), or continuous, floating (n, d)

    def to(self, device: torch.device | str) -> "Split":
        """The same samples on `device`."""
        return Split(self.inputs.to(device), self.targets.to(device))

    def select(self, index: Int64[Tensor, "k"]) -> "Split":
        """The samples at `index` (k,), copied; the index is moved to where the samples are."""
        index = index.to(self.inputs.device, non_blocking=True)
        return Split(self.inputs.index_select(0, index), self.targets.index_select(0, index))


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training and test samples, with what turns a raw batch into a network's input."""

    name: str
    train: Split
    test: Split | None
    classes: int | None  # None: continuous targets
    normalise: Callable[[Tensor], Tensor] = as_floating  # raw batch -> float32 batch of its shape; float64 stays
    augment: Callable[[Tensor], Tensor] | None = None  # raw batch -> raw batch, in training only

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def outputs(self) -> int:
        """How many numbers a network answers with: the classes, or d for continuous targets (n, d)."""
        return self.train.targets.shape[1] if self.classes is None else self.classes

    def to(self, device: torch.device | str) -> "DataSet":
        """The same data set with all samples on `device`."""
        test = None if self.test is None else self.test.to(device)
        return replace(self, train=self.train.to(device), test=test)

    def validation(self) -> "DataSet":
        """The tuning split of the KIB paper's code: a tenth of the training set in the place of the test set.

        The first tenth of a fixed permutation is held out, the rest (in permuted order) is trained on, and the test
        set is dropped. Raises EmptyBatchError for fewer than ten samples.
        """
        order = np.arange(len(self.train.targets))
        np.random.RandomState(0).shuffle(order)
        held_out = int(0.1 * len(order))
        if held_out == 0:
            message = f"data set {self.name!r} has {len(order)} training samples; a validation split needs at least 10"
            raise EmptyBatchError(message)
        return hold_out(self, torch.from_numpy(order), held_out)


def hold_out(data: DataSet, order: Int64[Tensor, "n"], count: int) -> DataSet:
    """`data` with the first `count` training samples of `order` as its test set, the others as its training set."""
    test, train = data.train.select(order[:count]), data.train.select(order[count:])
    return replace(data, train=train, test=test)


def from_arrays(
    inputs: Values,
    targets: Values,
    test_inputs: Values | None = None,
    test_targets: Values | None = None,
    *,
    classes: int | None = None,
    name: str = "arrays",
) -> DataSet:
    """A data set of the user's own arrays, tensors or lists: inputs (n, ...), targets (n,) or (n, d).

    Inputs are not rescaled: float64 stays, all else (uint8 images and the floats of a plain list too) becomes float32.
    Integer or boolean targets are labels, and floating ones too if `classes` is given and they are whole. Without
    `classes` labels are 0, 1, … with no gap, over training and test. Other floating targets are continuous, (n,)
    being (n, 1).
    A tensor that already fits is not copied. Raises EmptyBatchError, NonFiniteDataError, LabelError, MismatchError
    (lengths, or shapes in training and test), or UsageError for what is not numbers.
    """
    train = _split_of(inputs, targets, classes, f"of {name!r}")
    if (test_inputs is None) != (test_targets is None):
        raise MismatchError(f"test data of {name!r}: inputs or targets are missing; give both or neither")
    if test_inputs is None or test_targets is None:
        return DataSet(name, train, None, _count_classes([train], classes, name))
    test = _split_of(test_inputs, test_targets, classes, f"of {name!r} (test)")
    check_same_shape(train.inputs, test.inputs, f"inputs of {name!r}")
    check_same_shape(train.targets, test.targets, f"targets of {name!r}")
    return DataSet(name, train, test, _count_classes([train, test], classes, name))


def from_npz(path: str | os.PathLike[str], *, test: bool = True) -> DataSet:
    """A data set from an .npz file with arrays `x`, `y` and, if there is a test set, `x_test`, `y_test`.

    Without a test set, a fifth of the samples, drawn by a permutation with seed 0, becomes one; `test=False` leaves the
    test set out, and `x_test`, `y_test` unread. A number `classes` in the file, and the rest, are as in
    `from_arrays`, errors included; also raises MissingDataError, CorruptFileError, UsageError (no `x` or no `y`).
    """
    path = Path(path)
    arrays = read_npz(path, ("x", "y", "classes", *(("x_test", "y_test") if test else ())))
    if not {"x", "y"} <= set(arrays):
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UsageError(f"{path} holds {found}; it needs arrays named x and y (and may have x_test, y_test)")
    classes = int(arrays["classes"]) if "classes" in arrays else None
    test_set = arrays.get("x_test"), arrays.get("y_test")
    data = from_arrays(arrays["x"], arrays["y"], *test_set, classes=classes, name=path.stem)
    whole = _with_test_set(data) if data.test is None else data
    return whole if test else replace(whole, test=None)


def _split_of(inputs: Values, targets: Values, classes: int | None, place: str) -> Split:
    split = Split(as_inputs(inputs, f"inputs {place}"), as_targets(targets, classes, f"targets {place}"))
    check_lengths(*split, f"data {place}")
    return split


def _count_classes(splits: list[Split], classes: int | None, name: str) -> int | None:
    """`classes`, else how many there are, else None for continuous targets; all labels are in its range."""
    if splits[0].targets.is_floating_point():
        return None
    place = f"targets of {name!r}"
    if classes is None:
        return count_classes(torch.cat([split.targets for split in splits]), place)
    for split in splits:
        check_labels(split.targets, classes, place)
    return classes


def _with_test_set(data: DataSet) -> DataSet:
    samples = len(data.train.targets)
    if samples < 2:
        raise EmptyBatchError(f"data set {data.name!r} has one sample; a test set needs another")
    order = torch.from_numpy(np.random.default_rng(0).permutation(samples))
    return hold_out(data, order, max(1, samples // 5))


def read_npz(path: Path, names: Sequence[str] = ("x", "y", "x_test", "y_test")) -> dict[str, np.ndarray]:
    """Those of the named arrays that an .npz file holds.  Raises MissingDataError, CorruptFileError."""
    try:
        with path.open("rb") as stream:
            return _unpack_npz(stream, path, names)
    except OSError as error:
        raise MissingDataError(f"cannot read {path} ({error.strerror}); give the path of an .npz file") from error


def _unpack_npz(stream: BufferedReader, path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file if key in names}
    except BROKEN as error:
        message = f"{path} is no .npz file of plain number arrays; write it with numpy.savez(path, x=x, y=y)"
        raise CorruptFileError(message) from error
