"""Whatever bytes a file holds: a reader reads it or refuses it by a sentence that names it, and soon."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import png
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from segbench.datasets import cityscapes, kitti
from segbench.datasets.tools.description import read_description
from segbench.datasets.tools.images import read_labels, read_picture, read_sixteen_bits
from segbench.datasets.tools.lists import read_list
from segbench.errors import DataError

LONGEST = 5000
"""Milliseconds that a reader may take."""
RNG = np.random.default_rng(0)


def image(kind: str, **options: object) -> bytes:
    channels = () if options.pop("grey", False) else (3,)
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 3, (6, 7, *channels), np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def grey(bits: int) -> bytes:
    buffer = io.BytesIO()
    png.Writer(7, 6, greyscale=True, bitdepth=bits).write(buffer, RNG.integers(0, 2**bits, (6, 7)).tolist())
    return buffer.getvalue()


def mat(packed: bool) -> bytes:
    buffer = io.BytesIO()
    content = {"GTcls": {"Boundaries": np.zeros((2, 2)), "Segmentation": RNG.integers(0, 21, (6, 7), np.uint8)}}
    savemat(buffer, content, do_compression=packed)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
CAMERA = {"extrinsic": {"baseline": 0.2}, "intrinsic": {"fx": 20.0, "fy": 21.0, "u0": 4.0, "v0": 1.5}}
CALIBRATION = "P_rect_02: 700 0 600 40 0 710 170 .2 0 0 1 0\nP_rect_03: 700 0 600 -310 0 710 170 2 0 0 1 0\n"
DESCRIPTION = b"""classes: [road, car]   # two
palette: [[0, 0, 0], [1, 2, 3]]
labels: {0: road, 1: &c car, 2: *c}
ignore_index: [255, -1]
splits: {train: train.txt, val: "val.txt"}
"""
READERS: dict[str, tuple[str, Callable[[Path], object], bytes]] = {
    "png": ("a.png", read_picture, image("PNG")),
    "jpeg": ("a.jpg", read_picture, image("JPEG", exif=EXIF)),
    "webp": ("a.webp", read_picture, image("WEBP", exif=EXIF)),
    "tiff": ("a.tif", read_picture, image("TIFF")),
    "packed tiff": ("a.tif", read_picture, image("TIFF", compression="tiff_lzw")),
    "bmp": ("a.bmp", read_picture, image("BMP")),
    "mask": ("a.png", read_labels, image("PNG", grey=True)),
    "mask of 2 bits": ("a.png", read_labels, grey(2)),
    "mask in tiff": ("a.tif", read_labels, image("TIFF", grey=True, compression="tiff_deflate")),
    "mask in bmp": ("a.bmp", read_labels, image("BMP", grey=True)),
    "mask of colours": ("a.png", lambda path: read_labels(path, colours=True), image("PNG")),
    "disparity": ("a.png", lambda path: read_sixteen_bits(path, "a map"), grey(16)),
    "mat": ("a.mat", read_labels, mat(False)),
    "packed mat": ("a.mat", read_labels, mat(True)),
    "list": ("l.txt", lambda path: read_list(path, "get it"), "train/a\n# b\nval\\é.png\r\n".encode()),
    "description": ("dataset.yaml", read_description, DESCRIPTION),
    "camera of cityscapes": ("a.json", cityscapes.read_camera, json.dumps(CAMERA).encode()),
    "calibration of kitti": ("a.txt", kitti.read_camera, CALIBRATION.encode()),
}

edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "cut", "end"]), st.integers(0, 2**16), st.binary(min_size=1, max_size=6)
    ),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, many: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, new in many:
        at = place % (len(content) + 1)
        rest = {"set": at + len(new), "insert": at, "cut": at + len(new), "end": len(content)}[kind]
        content = content[:at] + (new if kind in ("set", "insert") else b"") + content[rest:]
    return content


def refused_or_read(reader: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            READERS[reader][1](path)
        except DataError as error:
            named = path.name in str(error)
        else:
            named = True
    assert named


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("examples", [6, pytest.param(400, marks=pytest.mark.slow)])
def test_no_bytes_break_a_reader(tmp_path: Path, reader: str, examples: int) -> None:
    name, read, whole = READERS[reader]
    path = tmp_path / name
    path.write_bytes(whole)
    read(path)

    @settings(
        max_examples=examples,
        deadline=LONGEST,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(st.one_of(edits.map(lambda many: edited(whole, many)), st.binary(max_size=300)))
    def holds(content: bytes) -> None:
        refused_or_read(reader, path, content)

    holds()


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_ends_anywhere_is_read_or_refused(tmp_path: Path, reader: str) -> None:
    name, _, whole = READERS[reader]
    for end in range(0, len(whole), max(1, len(whole) // 25)):
        refused_or_read(reader, tmp_path / name, whole[:end])
