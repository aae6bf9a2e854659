"""Names to data sets: one line each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from infohebb.data.dataset import DataSet
from infohebb.data.digits import digits
from infohebb.data.images import KINDS, check_raw_images, load_images
from infohebb.data.storage import Folder, fetch_files
from infohebb.data.synthetic import AS_PUBLISHED, blobs, linear, xor
from infohebb.errors import unknown_name

EMBEDDED: dict[str, Callable[[], DataSet]] = {
    "digits": digits,
    "blobs": blobs,
    "xor": xor,
    "xor_255": partial(xor, scale=AS_PUBLISHED),
    "linear": linear,
    "linear_255": partial(linear, scale=AS_PUBLISHED),
}
IMAGES: dict[str, Callable[..., DataSet]] = {name: partial(load_images, name) for name in KINDS}


def names() -> list[str]:
    """The data sets that `load` knows, in alphabetical order."""
    return sorted(EMBEDDED | IMAGES)


def load(
    name: str,
    data_dir: Folder | None = None,
    *,
    test: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = True,
) -> DataSet:
    """The data set `name`; without `test` it has no test set, and no test file is touched.

    Of images `mean` and `std` of pixels in [0, 1], a number for each channel, replace those that they are normalised by
    (0 and 1 leave them in [0, 1]); with `augment=False` those that are augmented in training are not.
    Files are looked up in `data_dir`, else in the folder that the environment names in INFOHEBB_DATA, else in the cache
    (INFOHEBB_CACHE, else the user's), and only into the cache are missing ones downloaded.
    Raises UnknownNameError, MissingDataError, CorruptFileError, or MismatchError for settings that do not fit.
    """
    check_preparation(name, mean, std, augment=augment)
    if name in IMAGES:
        return IMAGES[name](data_dir, test=test, mean=mean, std=std, augment=augment)
    data = EMBEDDED[name]()
    return data if test else replace(data, test=None)


def fetch(name: str, data_dir: Folder | None = None) -> list[Path]:
    """Download what `load` would read to where it would look, and return the files; none for an embedded data set.

    Files that are there with the published checksum are kept. Raises UnknownNameError, MissingDataError with what to
    put where by hand, CorruptFileError for another checksum, NoSpaceError.
    """
    _check_name(name)
    return fetch_files(name, data_dir) if name in IMAGES else []


def check_preparation(
    name: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, *, augment: bool = True
) -> None:
    """Raise UnknownNameError, or MismatchError where `load` would refuse these, without reading anything."""
    _check_name(name)
    check_raw_images(name, mean, std, augment=augment)


def _check_name(name: str) -> None:
    if name not in names():
        raise unknown_name("data set", name, names())
