from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import png
import pytest
from PIL import Image

from segbench.leaderboard import images

RNG = np.random.default_rng(0)


def test_16_bit_images_come_back_bit_for_bit() -> None:
    pixels = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    assert np.array_equal(images.decode(images.encode(pixels)), pixels)


def test_another_reader_sees_the_same_pixels() -> None:
    pixels = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    width, height, rows, info = png.Reader(bytes=images.encode(pixels)).read()
    assert (width, height, info["bitdepth"], info["planes"]) == (7, 5, 16, 3)
    assert np.array_equal(np.vstack([np.array(row) for row in rows]).reshape(5, 7, 3), pixels)
    labels = RNG.integers(0, 256, (4, 6)).astype(np.uint8)
    with Image.open(io.BytesIO(images.encode(labels))) as opened:
        assert opened.mode == "L"
        assert np.array_equal(np.array(opened), labels)


def test_labels_come_back() -> None:
    labels = RNG.integers(0, 256, (4, 6)).astype(np.uint8)
    assert np.array_equal(images.decode(images.encode(labels), labels=True), labels)


def claiming(width: int, height: int) -> bytes:
    """Change the size that a PNG file of 2 x 2 pixels claims to have."""
    made = images.encode(np.zeros((2, 2, 3), np.uint16))
    head = made[12:16] + struct.pack(">II", width, height) + made[24:29]
    return made[:12] + head + struct.pack(">I", zlib.crc32(head)) + made[33:]


SMALL = images.encode(np.zeros((2, 2, 3), np.uint16))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PNG file"),
        (b"GIF89a" + bytes(40), "not a PNG file"),
        (images.encode(np.zeros((2, 2), np.uint8)), "expected 16-bit RGB, got 8-bit grey"),
        (images.encode(np.zeros((2, 2, 3), np.uint8)), "expected 16-bit RGB, got 8-bit RGB"),
        (SMALL[:-20], "damaged"),
        (SMALL.replace(b"IDAT", b"IDAU"), "damaged"),
        (claiming(1 << 20, 1 << 20), "more than"),
        (claiming(200, 200), "damaged"),
        (claiming(1, 1), "more than its header says"),
    ],
)
def test_anything_else_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(images.NotAnImage, match=message):
        images.decode(content)


def test_other_writers_are_read() -> None:
    """Filters and chunks that ours does not write."""
    labels = RNG.integers(0, 4, (40, 50)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "png", optimize=True)
    assert np.array_equal(images.decode(buffer.getvalue(), labels=True), labels)
