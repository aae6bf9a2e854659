"""The command line in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

UNATTENDED = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}


class Answer(NamedTuple):
    status: int
    out: str
    err: str


def start(code: str, folder: Path) -> subprocess.Popen:
    """A Python of its own in `folder`, with one thread, which sees what users see: types and shapes unchecked."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=user_environment(folder), stdout=pipe, stderr=pipe, text=True
    )


def user_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user's process: one thread, a cache of its own, nothing of the test run."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("INFOHEBB", "PYTEST", "COV"))}
    return kept | UNATTENDED | {"INFOHEBB_CACHE": str(folder / "cache")}


def command_code(*words) -> str:
    """Code that calls the command line with `words`."""
    return f"from infohebb.cli import main; main({json.dumps([str(word) for word in words])})"
