"""What a user's arrays must be: numbers become tensors, or one line that says what is wrong and where."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from infohebb.errors import EmptyBatchError, LabelError, MismatchError, NonFiniteDataError, UsageError

Values = Tensor | np.ndarray | Sequence


def as_floating(values: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """float64 as it is, everything else as float32; no rescaling."""
    return values if values.dtype == torch.float64 else values.to(torch.float32)


def as_inputs(values: Values, place: str) -> Float[Tensor, "n ..."]:
    """Samples (n, ...) as float32 or float64, all finite.

    Raises UsageError (not numbers), EmptyBatchError, MismatchError (one number per sample) or NonFiniteDataError.
    """
    tensor = as_floating(_as_tensor(values, place))
    if tensor.ndim < 2:
        raise MismatchError(f"{place} have shape {tuple(tensor.shape)}; give (samples, features), or x.reshape(-1, 1)")
    _check_finite(tensor, place)
    return tensor


def as_targets(values: Values, classes: int | None, place: str) -> Int64[Tensor, "n"] | Float[Tensor, "n d"]:
    """Labels (n,) as int64, or continuous targets (n, d) as float32 or float64.

    Integers and booleans are labels. Floating numbers are continuous targets, (n,) becoming (n, 1), unless `classes`
    says that they count classes: then they must be whole. Whole ones of shape (n,) without `classes` could be either.
    Raises UsageError (not numbers), EmptyBatchError, LabelError, MismatchError or NonFiniteDataError.
    """
    tensor = _as_tensor(values, place)
    if not tensor.is_floating_point():
        return _as_labels(tensor, place)
    _check_finite(tensor, place)
    whole = not bool((tensor != tensor.round()).any())
    if classes is None:
        if tensor.ndim == 1 and whole:
            raise LabelError(f"{place} are whole floats; give y.astype(int) for labels, y[:, None] to predict numbers")
        return _as_continuous(tensor, place)
    if not whole:
        raise LabelError(f"{place} are not whole numbers; give integer labels, or leave out classes={classes}")
    return _as_labels(tensor, place)


def check_lengths(inputs: Shaped[Tensor, "n ..."], targets: Shaped[Tensor, "k ..."], place: str) -> None:
    """Raise MismatchError unless there is one target for each sample."""
    if len(inputs) != len(targets):
        message = f"{place}: {len(inputs)} inputs and {len(targets)} targets; give one target for each input"
        raise MismatchError(message)


def check_same_shape(train: Shaped[Tensor, "n ..."], test: Shaped[Tensor, "k ..."], place: str) -> None:
    """Raise MismatchError unless samples have one shape and one kind (labels or continuous) in training and test."""
    if train.shape[1:] != test.shape[1:] or train.is_floating_point() != test.is_floating_point():
        message = f"{place}: {_kind(train)} in training, {_kind(test)} in test; give both the same"
        raise MismatchError(message)


def check_labels(labels: Int64[Tensor, "n"], classes: int, place: str) -> None:
    """Raise LabelError unless all labels are in 0 .. classes - 1."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise LabelError(f"{place} contain label {wrong}; with {classes} classes labels go from 0 to {classes - 1}")


def count_classes(labels: Int64[Tensor, "n"], place: str) -> int:
    """The number of classes, labelled from 0 without a gap.  Raises LabelError, because the rules count on it."""
    present = labels.unique()
    count = len(present)
    if present[0] != 0 or present[-1] != count - 1:
        shown = ", ".join(map(str, present[:5].tolist())) + (", …" if count > 5 else "")
        number = "number them from 0, as numpy.unique(y, return_inverse=True)[1] does"
        raise LabelError(f"{place} have labels {shown}; {number}, or give classes=N if a class has no sample here")
    return count


def _kind(tensor: Shaped[Tensor, "n ..."]) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape[1:])} per sample"


def _as_labels(tensor: Shaped[Tensor, "n ..."], place: str) -> Int64[Tensor, "n"]:
    if tensor.ndim != 1:
        shape = tuple(tensor.shape)
        raise LabelError(f"{place} have shape {shape}; give one label per sample (y.reshape(-1), or y.argmax(1))")
    return tensor.to(torch.int64)


def _as_continuous(tensor: Float[Tensor, "n ..."], place: str) -> Float[Tensor, "n d"]:
    if tensor.ndim > 2:
        raise MismatchError(f"{place} have shape {tuple(tensor.shape)}; give (samples, outputs), or y.flatten(1)")
    return as_floating(tensor.reshape(len(tensor), -1))


def _as_tensor(values: Values, place: str) -> Shaped[Tensor, "n ..."]:
    """Numbers as a tensor of a type that torch computes with, at least one sample."""
    tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(_numeric_array(values, place))
    if tensor.is_complex():
        raise UsageError(f"{place} are complex numbers; give real ones")
    if tensor.ndim == 0 or tensor.numel() == 0:
        raise EmptyBatchError(f"{place} have shape {tuple(tensor.shape)}: no samples; give at least one")
    return tensor


def _numeric_array(values: np.ndarray | Sequence, place: str) -> np.ndarray:
    """A fresh array; the floats of a plain list become float32, since a list has no precision of its own."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{place} are not a rectangular array; give every sample the same shape") from error
    if array.dtype.kind not in "biufc":
        raise UsageError(f"{place} are of type {array.dtype}, not numbers; convert them first")
    if array.dtype == np.float64 and not isinstance(values, np.ndarray):
        return array.astype(np.float32)
    return array.astype(_type_in_torch(array.dtype), order="C")


def _type_in_torch(dtype: np.dtype) -> np.dtype:
    """The nearest type that torch computes with, in the machine's byte order."""
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize >= 8 else np.float32)
    if dtype.kind == "u" and dtype.itemsize > 1:
        return np.dtype(np.int64)
    return np.dtype(np.complex128) if dtype.kind == "c" else dtype.newbyteorder("=")


def _check_finite(tensor: Float[Tensor, "n ..."], place: str) -> None:
    finite = torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)
    if not bool(finite.all()):
        first = int(finite.logical_not().nonzero()[0])
        raise NonFiniteDataError(f"{place} contain NaN or infinity, first in sample {first}; mend it or leave it out")
