"""The raw material of pictures, which lies in an `.npz` beside a record."""

import zipfile
from collections.abc import Sequence

import numpy as np

from infohebb.errors import CorruptFileError
from infohebb.experiments.record import Record
from infohebb.report.old_names import array_name
from infohebb.report.summary import Summary


def read_arrays(record: Record, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays beside a record, or those of some names that are there; none where there is no file.

    Raises CorruptFileError for a file of anything else.
    """
    path = record.pictures
    if path is None:
        return {}
    try:
        with np.load(path) as arrays:
            found = {array_name(name, record): name for name in arrays.files}
            return {name: arrays[stored] for name, stored in found.items() if names is None or name in names}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise CorruptFileError(f"{path} does not hold the pictures of a record; move it away") from error


def first_with(row: Summary, names: Sequence[str]) -> tuple[Record, dict[str, np.ndarray]] | None:
    """Of the first seed that has all arrays of those names: its record and them; one seed stands for all."""
    for record in row.records:
        arrays = read_arrays(record, names)
        if len(arrays) == len(names):
            return record, arrays
    return None


def regular(time: np.ndarray) -> bool:
    """Whether all steps of `time` are as long, but for what half a precision makes of them."""
    steps = np.diff(time)
    return bool(steps.size) and bool((np.abs(steps - np.median(steps)) <= 0.5 * np.median(steps)).all())
