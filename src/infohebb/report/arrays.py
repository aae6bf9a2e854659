"""The raw material of pictures, which lies in an `.npz` beside a record."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infohebb.errors import CorruptFileError
from infohebb.experiments.record import Record
from infohebb.report.summary import Summary


def read_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, or those of some names that it holds.  Raises CorruptFileError when it is not one."""
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files if names is None or name in names}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise CorruptFileError(f"{path} does not hold the pictures of a record; move it away") from error


def first_with(row: Summary, names: Sequence[str]) -> tuple[Record, dict[str, np.ndarray]] | None:
    """Of the first seed that has all arrays of those names: its record and them; one seed stands for all."""
    for record in row.records:
        if record.pictures is not None:
            arrays = read_arrays(record.pictures, names)
            if len(arrays) == len(names):
                return record, arrays
    return None


def regular(time: np.ndarray) -> bool:
    """Whether all steps of `time` are as long, but for what half a precision makes of them."""
    steps = np.diff(time)
    return bool(steps.size) and bool((np.abs(steps - np.median(steps)) <= 0.5 * np.median(steps)).all())
