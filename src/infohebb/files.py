"""Files appear whole or not at all: they are written beside their place and renamed."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from infohebb.errors import NoSpaceError

if TYPE_CHECKING:
    import numpy as np


@contextlib.contextmanager
def full_disk_as_error(path: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into a NoSpaceError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"no space left to write {path}; free some, or choose another folder with --out"
        raise NoSpaceError(message) from error


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Call `write` with a temporary name beside `path`, flush it to the disk, and rename it to `path`.

    Raises NoSpaceError when the disk is full; whatever stood at `path` is then still there.
    """
    with full_disk_as_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            write(part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def write_arrays(path: Path, arrays: "dict[str, np.ndarray]") -> Path:
    """Write arrays as a compressed `.npz`.  Raises NoSpaceError."""
    import numpy as np

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]

    return write_whole(path, write)
