"""Folders that callbacks write to: of the right type when made, usable when a fit starts."""

import os
from pathlib import Path
from typing import Any

from infohebb.errors import UsageError, WrongTypeError
from infohebb.files import full_disk_as_error
from infohebb.training.wording import cut, said, short


def as_folder(value: Any) -> Path:
    """Return a folder's path.  Raises WrongTypeError for what is none."""
    if not isinstance(value, (str, Path)):
        raise WrongTypeError(f"folder={short(value)}: give the path of a folder, a string or a pathlib.Path")
    return Path(value)


def make_folder(folder: Path) -> None:
    """Make the folder if it is not there.  Raises UsageError for one that cannot be made or written to."""
    try:
        with full_disk_as_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        why = error.strerror or type(error).__name__ if isinstance(error, OSError) else said(error)
        raise UsageError(
            f"folder={_path(folder)} cannot be made: {why}; give a folder that can be written to"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"folder={_path(folder)} cannot be written to; give another, or change its permissions")


def _path(folder: Path) -> str:
    return cut(repr(str(folder)), 160)
