"""Where data files lie, and how they get there: looked up in one folder, downloaded with their checksums."""

import os
import shlex
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pooch

from infohebb.data.sources import SOURCES, Source
from infohebb.errors import CorruptFileError, MissingDataError
from infohebb.files import write_whole

Folder = str | os.PathLike[str]
Part = Literal["train", "test"]
CHUNK = 2**20  # bytes


def find_files(name: str, parts: Sequence[Part], data_dir: Folder | None = None) -> list[list[Path]]:
    """The files of each part of the image data set `name`, in reading order; `x` stands in for a missing `x.gz`.

    They are looked up in `data_dir`, else in the folder that the environment names in INFOHEBB_DATA, else in the cache
    (INFOHEBB_CACHE, else the user's), and only into the cache are missing ones downloaded.
    Raises MissingDataError, with what to put where; CorruptFileError for a download with another checksum.
    """
    source, root = SOURCES[name], _root(data_dir)
    files = [file for part in parts for file in getattr(source, part)]
    missing = [file for file in files if not _actual(root / source.folder / file).is_file()]
    if missing and _chosen(data_dir) is not None:
        lacks = f"{root / source.folder} lacks {', '.join(missing)}"
        raise MissingDataError(f"{name}: {lacks}; {_mend(name, data_dir, named=True)}")
    if missing:
        _obtain(name, source, root, missing, data_dir)
    return [[_actual(root / source.folder / file) for file in getattr(source, part)] for part in parts]


def fetch_files(name: str, data_dir: Folder | None = None) -> list[Path]:
    """All files of the image data set `name` in the folder where `find_files` looks, checked against their checksums.

    Files that are there and have it are kept, others are downloaded. Raises as `find_files` does, and NoSpaceError.
    """
    source, root = SOURCES[name], _root(data_dir)
    files = source.train | source.test
    wrong = [file for file, md5 in files.items() if not _has_checksum(root / source.folder / file, md5)]
    if wrong:
        _obtain(name, source, root, wrong, data_dir)
    return [root / source.folder / file for file in files]


def _chosen(data_dir: Folder | None) -> Folder | None:
    """The folder that the user chose, if any: nothing is put there unasked."""
    return data_dir or os.environ.get("INFOHEBB_DATA") or None


def _root(data_dir: Folder | None) -> Path:
    return Path(_chosen(data_dir) or os.environ.get("INFOHEBB_CACHE") or pooch.os_cache("infohebb")).expanduser()


def _actual(path: Path) -> Path:
    """`path`, unless the same file is there unpacked and it is not."""
    unpacked = path.with_suffix("") if path.suffix == ".gz" else path
    return unpacked if unpacked.is_file() and not path.is_file() else path


def _mend(name: str, data_dir: Folder | None, *, named: bool = False) -> str:
    """What the user can do; files that the message has `named` already are not named again."""
    source, root = SOURCES[name], _root(data_dir)
    option = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else ""
    if source.archive:
        by_hand = f"put {source.archive[0]} from {source.url} into {root} and run"
    else:
        files = ", ".join([*source.train, *source.test])
        where = f"them there from {source.url}" if named else f"{files} from {source.url} into {root / source.folder}"
        by_hand = f"put {where}, or run"
    return f"{by_hand}: infohebb data fetch {name}{option}"


def _obtain(name: str, source: Source, root: Path, files: list[str], data_dir: Folder | None) -> None:
    """Download `files`, or the archive that holds them, and leave each in its place."""
    mend = _mend(name, data_dir)
    checksums = {file: (source.train | source.test)[file] for file in files}
    if source.archive is None:
        for file, md5 in checksums.items():
            _download(source.url + file, root / source.folder / file, md5, mend)
        return
    archive, md5 = root / source.archive[0], source.archive[1]
    if not _has_checksum(archive, md5):
        _download(source.url + source.archive[0], archive, md5, mend)
    _unpack(archive, root / source.folder, checksums)


def _download(url: str, path: Path, md5: str, mend: str) -> None:
    """Bring `url` to `path`, which appears only when it is whole and has its checksum."""

    def write(part: Path) -> None:
        pooch.HTTPDownloader(chunk_size=CHUNK)(url, str(part), None)
        _check_checksum(
            part, md5, f"{url} does not have its published MD5; nothing was kept; try again later, or {mend}"
        )

    try:
        write_whole(path, write)
    except OSError as error:  # what `requests` raises is one too
        reason = error.strerror or type(error).__name__
        raise MissingDataError(f"cannot download {url} to {path} ({reason}); {mend}") from error


def _has_checksum(path: Path, md5: str) -> bool:
    return path.is_file() and pooch.file_hash(str(path), alg="md5") == md5


def _check_checksum(path: Path, md5: str, message: str) -> None:
    if not _has_checksum(path, md5):
        raise CorruptFileError(message)


def _unpack(archive: Path, folder: Path, checksums: dict[str, str]) -> None:
    """Read the plain files named in `checksums` from `archive`, wherever its other members would like to go."""
    wanted = {f"{folder.name}/{file}": (folder / file, md5) for file, md5 in checksums.items()}
    try:
        with tarfile.open(archive) as members:
            for member in members:
                content = members.extractfile(member) if member.isreg() and member.name in wanted else None
                if content is not None:
                    _write_member(content.read(), *wanted.pop(member.name))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorruptFileError(f"{archive} cannot be unpacked ({error}); delete it and fetch again") from error
    if wanted:
        raise CorruptFileError(f"{archive} lacks {', '.join(wanted)}; delete it and fetch again")


def _write_member(content: bytes, path: Path, md5: str) -> None:
    def write(part: Path) -> None:
        part.write_bytes(content)
        _check_checksum(part, md5, f"{path.name} in the archive does not have its published MD5; nothing was kept")

    write_whole(path, write)
