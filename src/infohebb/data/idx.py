"""The MNIST family's file format: a magic number, the sizes, and then nothing but bytes."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from infohebb.data.dataset import Split
from infohebb.errors import CorruptFileError, MissingDataError

SIDE = 28  # pixels
CLASSES = 10


def read_idx_split(images: Path, labels: Path) -> Split:
    """Images (n, 1, 28, 28), uint8, with labels (n,), int64 in 0 .. 9, of two idx files, packed with gzip or not.

    Raises MissingDataError for a file that cannot be read, CorruptFileError for one that is not what it should be.
    """
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if pixels.shape[1:] != (SIDE, SIDE):
        raise corrupt(images, f"its images are {pixels.shape[1]} × {pixels.shape[2]}, not {SIDE} × {SIDE}")
    if len(classes) != len(pixels):
        raise corrupt(labels, f"it has {len(classes)} labels for the {len(pixels)} images of {images.name}")
    if classes.max() >= CLASSES:
        raise corrupt(labels, f"it has label {classes.max()}, beyond {CLASSES - 1}")
    return Split(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(classes.astype(np.int64)))


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "n ..."]:
    """The bytes of an idx file in its shape, of `dimensions` sizes, at least one sample; errors as `read_idx_split`."""
    content, start = _read_bytes(path), 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise corrupt(path, f"it does not start as an idx file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != np.prod(shape, dtype=object) or len(content) == start:
        raise corrupt(path, f"it announces shape {shape} and holds {len(content) - start} bytes")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()  # torch wants it writable


def corrupt(path: Path, what: str) -> CorruptFileError:
    """The error for a data file whose content is wrong."""
    return CorruptFileError(f"{path} is not the published file: {what}; delete it and fetch it again")


def _read_bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise corrupt(path, f"gzip says: {error}") from error
    except OSError as error:
        raise MissingDataError(f"cannot read {path} ({error.strerror}); make it readable") from error
