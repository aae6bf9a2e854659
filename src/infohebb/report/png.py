"""Images of few colours as small PNG: one byte a pixel and a palette, where matplotlib writes four."""

import base64
import io
import re
import struct
import zlib

import numpy as np
from matplotlib.image import imread

MOST_COLOURS = 256


def shrink_images(svg: str) -> str:
    """`svg` with every embedded PNG of at most 256 opaque colours written with a palette."""
    return re.sub(r"(data:image/png;base64,)([A-Za-z0-9+/=\s]+)", lambda found: found[1] + _smaller(found[2]), svg)


def palette_png(indices: np.ndarray, colours: np.ndarray) -> bytes:
    """The PNG of rows × columns `indices` into `colours` (n × 3), all of them bytes."""
    rows, columns = indices.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), indices.astype(np.uint8)], axis=1)
    body = zlib.compress(lines.tobytes(), 9)
    chunks = ((b"IHDR", header), (b"PLTE", colours.astype(np.uint8).tobytes()), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _smaller(code: str) -> str:
    pixels = np.rint(imread(io.BytesIO(base64.b64decode(code)), format="png") * 255).astype(np.uint8)
    colours, indices = np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0, return_inverse=True)
    if pixels.shape[-1] != 4 or len(colours) > MOST_COLOURS or (colours[:, 3] < 255).any():
        return code
    return base64.b64encode(palette_png(indices.reshape(pixels.shape[:2]), colours[:, :3])).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
