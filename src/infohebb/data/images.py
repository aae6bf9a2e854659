"""MNIST, Fashion-MNIST, Kuzushiji-MNIST and CIFAR-10, as published, with the KIB paper's normalisation."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from infohebb.data.arrays import as_floating
from infohebb.data.augmentation import NormaliseImages, normalise_images, random_crop_and_flip
from infohebb.data.cifar import read_cifar_split
from infohebb.data.dataset import DataSet, Split
from infohebb.data.idx import read_idx_split
from infohebb.data.storage import Folder, Part, find_files

CLASSES = 10


class Kind(NamedTuple):
    """How a family of image data sets is read and prepared."""

    read: Callable[..., Split]  # of the paths of one part
    normalise: NormaliseImages
    augment: Callable[[Tensor], Tensor] | None


_GREY = Kind(read_idx_split, normalise_images((0.5,), (0.5,)), None)
_COLOUR = Kind(
    read_cifar_split,
    normalise_images((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    random_crop_and_flip,
)
KINDS = {"mnist": _GREY, "fashion_mnist": _GREY, "kmnist": _GREY, "cifar10": _COLOUR}


def load_images(name: str, data_dir: Folder | None = None, *, test: bool = True) -> DataSet:
    """The image data set `name`: raw uint8 (n, C, H, W) and ten classes; without `test` no test file is touched.

    Looks in `data_dir`, else in INFOHEBB_DATA, else in the cache, and downloads into the cache only.
    Raises MissingDataError or CorruptFileError.
    """
    parts: list[Part] = ["train", "test"] if test else ["train"]
    splits = _read_parts(name, parts, data_dir)
    kind = KINDS[name]
    return DataSet(name, splits[0], splits[1] if test else None, CLASSES, kind.normalise, kind.augment)


def normaliser(name: str) -> Callable[[Tensor], Tensor]:
    """What turns raw images of the data set `name` into a network's input; for other data, floating numbers."""
    return KINDS[name].normalise if name in KINDS else as_floating


def load_split(name: str, part: Part, data_dir: Folder | None = None) -> Split:
    """The "train" or "test" samples alone of the image data set `name`, found as `load_images` does."""
    return _read_parts(name, [part], data_dir)[0]


def _read_parts(name: str, parts: list[Part], data_dir: Folder | None) -> list[Split]:
    return [KINDS[name].read(*paths) for paths in find_files(name, parts, data_dir)]
