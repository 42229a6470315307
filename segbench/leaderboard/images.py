"""Images and label maps as lossless PNG files, with 16 and 8 bits."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import png
from numpy.typing import NDArray

LARGEST = 1 << 25
"""Largest number of pixels of an image that is decoded."""
_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type of a PNG file -> samples of a pixel."""


class NotAnImage(ValueError):
    """A file is not a PNG image of the expected kind."""


def encode(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Return a PNG file.

    Args:
        pixels: an image (H, W, 3) or labels (H, W); the type decides between 8 and 16 bits.
    """
    height, width = pixels.shape[:2]
    depth = 8 * pixels.itemsize
    writer = png.Writer(width, height, greyscale=pixels.ndim == 2, bitdepth=depth, compression=9)
    rows = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    buffer = io.BytesIO()
    writer.write_packed(buffer, rows)
    return buffer.getvalue()


def unpacked_size(content: bytes) -> int:
    """Return how many bytes the pixels of a PNG file take, as its header says; 0 for what is no PNG file."""
    head = content[: len(_START) + 10]
    if not head.startswith(_START) or len(head) < len(_START) + 10:
        return 0
    width, height = (int.from_bytes(head[at : at + 4], "big") for at in (len(_START), len(_START) + 4))
    return -(-width * height * head[-2] * _SAMPLES.get(head[-1], 4) // 8)


def decode(content: bytes, *, labels: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the pixels of a PNG file: a 16-bit image (H, W, 3), or 8-bit labels (H, W).

    Args:
        content: the file.
        labels: the file holds labels.

    Raises:
        NotAnImage: the file is damaged, too large or of another kind.
    """
    return _decoded(content, "8-bit grey" if labels else "16-bit RGB")


def decode_confidence(content: bytes) -> NDArray[np.uint16]:
    """Return the pixels of a 16-bit grey PNG file, (H, W).

    Raises:
        NotAnImage: the file is damaged, too large or of another kind.
    """
    found: NDArray[np.uint16] = _decoded(content, "16-bit grey")
    return found


def _decoded(content: bytes, wanted: str) -> NDArray[Any]:
    planes = 3 if wanted.endswith("RGB") else 1
    try:
        header = png.Reader(bytes=content)
        header.preamble()
        width, height = header.width, header.height
        kind = f"{header.bitdepth}-bit {'grey' if header.greyscale else 'RGB'} of {header.planes} planes"
        if kind != f"{wanted} of {planes} planes" or header.interlace:
            raise NotAnImage(f"expected {wanted}, got {kind}")
        if width * height > LARGEST:
            raise NotAnImage(f"{width} x {height} pixels, more than {LARGEST:,}")
        _bounded(content, height * (width * header.planes * header.bitdepth // 8 + 1))
        _, _, rows, _ = png.Reader(bytes=content).read()
        found = np.empty((height, width * header.planes), np.uint8 if wanted.startswith("8") else np.uint16)
        read = 0
        for row in rows:
            found[read] = row
            read += 1
    except (png.Error, zlib.error, EOFError, ValueError, LookupError, TypeError, struct.error) as error:
        if isinstance(error, NotAnImage):
            raise
        raise NotAnImage(f"not a PNG file, or a damaged one ({error})") from error
    if read != height:
        raise NotAnImage("a damaged PNG file: it ends early")
    return found if planes == 1 else found.reshape(height, width, planes)


def _bounded(content: bytes, most: int) -> None:
    """Raise an error if the unpacked pixels of a file are longer than its header says."""
    inflate, length = zlib.decompressobj(), 0
    for name, chunk in png.Reader(bytes=content).chunks():
        while name == b"IDAT" and chunk:
            length += len(inflate.decompress(chunk, 1 << 20))
            chunk = inflate.unconsumed_tail
            if length > most:
                raise NotAnImage("its pixels are more than its header says")
