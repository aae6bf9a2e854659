"""MNIST, Fashion-MNIST, Kuzushiji-MNIST, CIFAR-10 and CIFAR-100, as published, with the KIB paper's normalisation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from infohebb.data.arrays import as_floating
from infohebb.data.augmentation import NormaliseImages, normalise_images, random_crop_and_flip
from infohebb.data.cifar import CIFAR100, read_cifar_split
from infohebb.data.dataset import DataSet, Split
from infohebb.data.idx import read_idx_split
from infohebb.data.storage import Folder, Part, find_files
from infohebb.errors import MismatchError, is_number


class Kind(NamedTuple):
    """How a family of image data sets is read and prepared."""

    read: Callable[..., Split]  # of the paths of one part
    classes: int
    mean: tuple[float, ...]  # of pixels in [0, 1], one number for each channel
    std: tuple[float, ...]
    augment: Callable[[Tensor], Tensor] | None


_GREY = Kind(read_idx_split, 10, (0.5,), (0.5,), None)
_COLOUR = Kind(read_cifar_split, 10, (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261), random_crop_and_flip)
KINDS = {
    **dict.fromkeys(("mnist", "fashion_mnist", "kmnist"), _GREY),
    "cifar10": _COLOUR,
    "cifar100": _COLOUR._replace(read=partial(read_cifar_split, labelling=CIFAR100), classes=CIFAR100.classes),
}


def load_images(
    name: str,
    data_dir: Folder | None = None,
    *,
    test: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = True,
) -> DataSet:
    """The image data set `name`: raw uint8 (n, C, H, W) and its classes; without `test` no test file is touched.

    `mean` and `std` of pixels in [0, 1], a number for each channel, replace those that it is normalised by; with
    `augment=False` it is not augmented, if it ever is. Looks in `data_dir`, else in INFOHEBB_DATA, else in the cache,
    and downloads into the cache only. Raises MissingDataError, CorruptFileError or MismatchError.
    """
    normalise = normaliser(name, mean, std)
    parts: list[Part] = ["train", "test"] if test else ["train"]
    splits = _read_parts(name, parts, data_dir)
    kind = KINDS[name]
    crops = kind.augment if augment else None
    return DataSet(name, splits[0], splits[1] if test else None, kind.classes, normalise, crops)


def normaliser(
    name: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Callable[[Tensor], Tensor]:
    """What turns raw images of the data set `name` into a network's input; for other data, floating numbers.

    Raises MismatchError for `mean` and `std` that do not fit the images.
    """
    if name not in KINDS:
        check_raw_images(name, mean, std)
        return as_floating
    return _normalise(name, KINDS[name], mean, std)


def check_raw_images(
    name: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, *, augment: bool = True
) -> None:
    """Raise MismatchError for settings that only a set of raw images has, unless `name` is one and they fit it."""
    if not isinstance(augment, bool):
        raise MismatchError(f"{name}: augment = {augment!r}: give true or false")
    if name in KINDS:
        _normalise(name, KINDS[name], mean, std)
        return
    given = [word for word, value in (("mean", mean), ("std", std)) if value is not None]
    given += [] if augment else ["augment"]
    if given:
        raise MismatchError(f"{name} is no set of raw images, to be normalised or augmented; leave out {given[0]}")


def _normalise(name: str, kind: Kind, mean: Sequence[float] | None, std: Sequence[float] | None) -> NormaliseImages:
    if mean is None and std is None:
        return normalise_images(kind.mean, kind.std)
    if mean is None or std is None:
        raise MismatchError(
            f"{name}: {'std' if mean is None else 'mean'} is given alone; give mean and std, or neither"
        )
    for word, numbers in (("mean", mean), ("std", std)):
        if not isinstance(numbers, Sequence) or not all(map(is_number, numbers)):
            raise MismatchError(f"{name}: {word} = {numbers!r}: give a list of numbers, one for each channel")
        if len(numbers) != len(kind.mean):
            channels = "1 channel" if len(kind.mean) == 1 else f"{len(kind.mean)} channels"
            raise MismatchError(f"{name}: {word} = {numbers!r} for images of {channels}; give one number for each")
    if min(std) <= 0:
        raise MismatchError(f"{name}: std = {std!r}: give numbers above 0")
    return normalise_images(mean, std)


def load_split(name: str, part: Part, data_dir: Folder | None = None) -> Split:
    """The "train" or "test" samples alone of the image data set `name`, found as `load_images` does."""
    return _read_parts(name, [part], data_dir)[0]


def _read_parts(name: str, parts: list[Part], data_dir: Folder | None) -> list[Split]:
    return [KINDS[name].read(*paths) for paths in find_files(name, parts, data_dir)]
