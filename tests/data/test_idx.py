import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infohebb.data.idx import read_idx, read_idx_split
from infohebb.errors import CorruptFileError, MissingDataError

IMAGES = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
LABELS = np.array([7, 0, 9], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_split_is_read_packed_or_not(tmp_path, suffix):
    images = write(tmp_path / f"images{suffix}", idx(IMAGES))
    split = read_idx_split(images, write(tmp_path / f"labels{suffix}", idx(LABELS)))
    assert split.inputs.dtype == torch.uint8
    assert torch.equal(split.inputs[:, 0], torch.from_numpy(IMAGES))
    assert split.targets.dtype == torch.int64
    assert split.targets.tolist() == [7, 0, 9]


@pytest.mark.parametrize(
    ("images", "labels", "named", "message"),
    [
        (IMAGES[:, :27], LABELS, "images", "27 × 28, not 28 × 28"),
        (IMAGES, LABELS[:2], "labels", "2 labels for the 3 images of images"),
        (IMAGES, np.array([0, 10, 1], np.uint8), "labels", "label 10"),
        (IMAGES[:0], LABELS[:0], "images", r"shape \(0, 28, 28\)"),
        (LABELS, LABELS, "images", "3 dimensions"),
        (IMAGES, IMAGES, "labels", "1 dimensions"),
    ],
)
def test_files_that_do_not_fit(tmp_path, images, labels, named, message):
    paths = write(tmp_path / "images", idx(images)), write(tmp_path / "labels", idx(labels))
    with pytest.raises(CorruptFileError, match=message) as caught:
        read_idx_split(*paths)
    assert str(caught.value).startswith(str(tmp_path / named))


WHOLE = idx(IMAGES)
PACKED = gzip.compress(WHOLE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short", WHOLE[:-1], "holds 2351 bytes"),
        ("long", WHOLE + b"\0", "holds 2353 bytes"),
        ("header", WHOLE[:10], "does not start as an idx file"),
        ("empty", b"", "does not start as an idx file"),
        ("integers", b"\0\0\x0c" + WHOLE[3:], "does not start as an idx file"),
        ("huge", WHOLE[:4] + b"\xff" * 12 + WHOLE[16:], "announces shape"),
        ("cut.gz", PACKED[: len(PACKED) // 2], "gzip says"),
        ("empty.gz", b"", "does not start as an idx file"),
        ("unpacked.gz", WHOLE, "gzip says: Not a gzipped file"),
        ("page.gz", b"<html>404 not found</html>", "gzip says"),
        ("flipped.gz", PACKED[:40] + bytes([PACKED[40] ^ 255]) + PACKED[41:], "gzip says"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptFileError, match=message) as caught:
        read_idx(tmp_path / name, 3)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingDataError, match=r"cannot read .*folder \(Is a directory"):
        read_idx(tmp_path / "folder", 3)


@given(place=st.integers(0, len(PACKED) - 1), value=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_is_read_as_before_or_refused(place, value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.gz"
        path.write_bytes(PACKED[:place] + bytes([value]) + PACKED[place + 1 :])
        try:
            assert np.array_equal(read_idx(path, 3), IMAGES)
        except CorruptFileError as error:
            assert str(path) in str(error)
