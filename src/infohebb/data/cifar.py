"""The batch files of CIFAR-10 and CIFAR-100 are pickles; these are read without letting them call anything.

A pickle is a program. This reader knows three names, those that a NumPy array needs, and gives it stand-ins that only
remember what they are handed; every other name ends the reading.
"""

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from infohebb.data.dataset import Split
from infohebb.data.idx import corrupt
from infohebb.errors import MissingDataError

SHAPE = (3, 32, 32)  # of one image
KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
# What broken or hostile bytes make an unpickler raise.
BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
)


class Labelling(NamedTuple):
    """Where a batch file has its labels, and of how many classes they are."""

    key: bytes
    classes: int


CIFAR10 = Labelling(b"labels", 10)
CIFAR100 = Labelling(b"fine_labels", 100)


def read_cifar_split(*batches: Path, labelling: Labelling = CIFAR10) -> Split:
    """Images (n, 3, 32, 32), uint8, with labels (n,), int64 from 0, of all `batches` in their order.

    Raises MissingDataError for a file that cannot be read, CorruptFileError for one that is not what it should be.
    """
    parts = [read_cifar_batch(path, labelling) for path in batches]
    return Split(torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts]))


def read_cifar_batch(path: Path, labelling: Labelling = CIFAR10) -> Split:
    """One batch file, as `read_cifar_split`."""
    content = _unpickle(path)
    if not isinstance(content, dict):
        raise corrupt(path, "it holds no table of data and labels")
    images = _images(content.get(b"data"), path)
    return Split(images, _labels(content.get(labelling.key), len(images), path, labelling.classes))


def _images(packed: object, path: Path) -> UInt8[Tensor, "n 3 32 32"]:
    size = math.prod(SHAPE)
    match packed:
        case _StandIn(state=(_, (int(count), width), _, False, bytes(pixels))):
            if width == size and len(pixels) == count * size > 0:
                return torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(count, *SHAPE)
    raise corrupt(path, f"its data are not rows of {size} bytes, one for each image")


def _labels(labels: object, count: int, path: Path, classes: int) -> Tensor:
    if not isinstance(labels, list) or len(labels) != count:
        raise corrupt(path, f"it does not have one label for each of its {count} images")
    if not all(isinstance(label, int) and 0 <= label < classes for label in labels):
        raise corrupt(path, f"its labels are not all whole numbers in 0 .. {classes - 1}")
    return torch.tensor(labels, dtype=torch.int64)


class _StandIn:
    """In the place of an array or its type: remembers what the pickle fills it with."""

    state: object = None  # of an array: version, shape, type, whether column-major, bytes

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in KNOWN:
            raise pickle.UnpicklingError(f"it asks for {global_name!r} of {module_name!r}, which no image needs")
        return _StandIn


def _unpickle(path: Path) -> object:
    try:
        content = path.read_bytes()
        _check_sizes(content)
        return _Reader(io.BytesIO(content), encoding="bytes").load()
    except BROKEN as error:
        raise corrupt(path, (str(error) or type(error).__name__).replace("\n", " ")) from error
    except OSError as error:
        raise MissingDataError(f"cannot read {path} ({error.strerror}); make it readable") from error


def _check_sizes(content: bytes) -> None:
    """Raise ValueError where a pickle announces more than it holds: the unpickler would first make room for it."""
    for operation, argument, position in pickletools.genops(content):
        if operation.name in {"PUT", "LONG_BINPUT"} and (argument or 0) > (position or 0):
            raise ValueError(f"it numbers an object {argument} after {position} bytes")
