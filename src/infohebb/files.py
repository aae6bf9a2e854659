"""Files appear whole or not at all: they are written beside their place and renamed."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from infohebb.errors import BusyError, NoSpaceError, RecordConflictError

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


def write_whole(path: Path, write: Callable[[Path], object], *, once: bool = False) -> Path:
    """Call `write` with a temporary name beside `path`, flush it to the disk, and give it the name `path`.

    With `once` a file that has appeared there meanwhile is an error (RecordConflictError), not overwritten.
    Raises NoSpaceError when the disk is full; whatever stood at `path` is then still there.
    """
    with full_disk_as_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            write(part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            if once:
                os.link(part, path)
            else:
                part.replace(path)
        except FileExistsError as error:
            raise RecordConflictError(f"{path} appeared meanwhile: another process runs this row") from error
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


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while inside.  Raises BusyError when another process holds it."""
    try:
        import fcntl
    except ImportError:  # not on Windows: two processes on one row are then the user's to avoid
        yield
        return
    with full_disk_as_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(f"{path.parent}: another process runs this row; wait for it") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
