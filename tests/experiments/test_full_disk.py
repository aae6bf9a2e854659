"""A full disk: one line, and everything that was there is still there."""

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from infohebb.errors import NoSpaceError
from infohebb.files import write_arrays, write_whole


def full(*arguments, **keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_file_is_whole_or_what_it_was_before(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    write_whole(path, lambda part: part.write_text("old"))
    for number in (errno.ENOSPC, errno.EDQUOT):

        def half(part, number=number):
            part.write_text("ne")
            raise OSError(number, os.strerror(number))

        with pytest.raises(NoSpaceError, match=r"no space left to write .*a\.txt; free some, or .*--out"):
            write_whole(path, half)
    assert content(tmp_path) == {"sub/a.txt": b"old"}


def test_an_interruption_leaves_no_half_file(tmp_path):
    def interrupted(part):
        part.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", interrupted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "where", ["pathlib.Path.write_text", "pathlib.Path.write_bytes", "numpy.savez_compressed", "os.fsync"]
)
def test_earlier_results_survive_a_run_that_finds_the_disk_full(go, nowhere, monkeypatch, where):
    go(only="blobs/backprop")
    before = content(nowhere / "results")
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        with pytest.raises(NoSpaceError, match=r"no space left to write .*results") as caught:
            go(only="blobs/cosine")
    assert "\n" not in str(caught.value)
    assert before.items() <= content(nowhere / "results").items()
    assert not [path for path in (nowhere / "results").rglob("*") if ".part" in path.name]
    assert len(go()) == 2  # with space again the same command goes on


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_while_training(go, small_disk):
    (record,) = go(only="blobs/cosine", out=small_disk)
    before = content(small_disk)
    with pytest.raises(NoSpaceError, match=f"no space left to write {small_disk}"):
        go(only="blobs/backprop", out=small_disk, settings=["network.widths=[400, 400]"])
    assert content(small_disk) == before
    assert go(only="blobs/cosine", out=small_disk)[0].model_dump() == record.model_dump()


def test_a_really_full_disk_under_arrays(small_disk):
    path = write_arrays(small_disk / "a.npz", {"x": np.arange(10)})
    before = content(small_disk)
    noise = np.random.default_rng(0).integers(0, 255, 400_000).astype(np.uint8)
    with pytest.raises(NoSpaceError, match=r"a\.npz"):
        write_arrays(path, {"x": noise})
    with pytest.raises(NoSpaceError):
        write_whole(small_disk / "b", lambda part: part.write_bytes(bytes(400_000)))
    assert content(small_disk) == before
    assert isinstance(path, Path)
