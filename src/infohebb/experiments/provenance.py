"""What a record says of where it came from."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import infohebb


def versions() -> dict[str, str]:
    """Of Python and of what the figures depend on."""
    packages = ("infohebb", "torch", "numpy")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def commit() -> str | None:
    """The commit of the source that runs, with "+changes" if its files differ; None outside its repository."""
    package = Path(infohebb.__file__).parent
    head = _git(package, "rev-parse", "HEAD")
    if not head or not _git(package, "ls-files", "__init__.py"):
        return None
    return head + ("+changes" if _git(package, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
