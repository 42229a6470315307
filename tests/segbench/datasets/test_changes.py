"""A changed data set has another fingerprint, or is refused: whatever was changed, and however."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segbench.datasets.base import Sample
from segbench.datasets.folder import Folder
from segbench.datasets.tools import hashes
from segbench.errors import DataError

TICK = 0.01
"""Seconds after which a change has another time stamp."""
NAMES = ("a", "b/c", "d")
LISTS = {"train.txt": "a\nb/c\n", "val.txt": "d\n"}
DESCRIPTION = "classes: [road, car]\nlabels: {0: road, 1: car, 2: car}\nsplits: {train: train.txt, val: val.txt}\n"
FILES = [f"{kind}/{name}.png" for kind in ("images", "masks") for name in NAMES]

Change = tuple[str, int, int]
"""Kind, and two numbers that choose what is changed."""
changes = st.tuples(
    st.sampled_from(["byte", "byte of text", "move", "rename", "swap", "labels", "exchange"]),
    st.integers(0, 2**16),
    st.integers(1, 255),
)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    made = {name: text.encode() for name, text in {**LISTS, "dataset.yaml": DESCRIPTION}.items()}
    for file in FILES:
        array = rng.integers(0, 3, (3, 4)) if file.startswith("masks") else rng.integers(0, 256, (3, 4, 3))
        Image.fromarray(array.astype(np.uint8)).save(folder / "one.png", compress_level=0)
        made[file] = (folder / "one.png").read_bytes()
    return made


def rewritten(path: Path, content: bytes) -> None:
    """Write a file so that size and time say nothing."""
    stat = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def change(root: Path, kind: str, place: int, value: int) -> None:
    file = root / (FILES[value % len(FILES)] if kind != "byte of text" else [*LISTS, "dataset.yaml"][value % 3])
    train, val = root / "train.txt", root / "val.txt"
    if kind in ("byte", "byte of text"):
        content = bytearray(file.read_bytes())
        content[place % len(content)] ^= value
        rewritten(file, bytes(content))
    elif kind == "move":
        lines = train.read_text().split()
        val.write_text("\n".join([lines.pop(place % 2), *val.read_text().split()]))
        train.write_text("\n".join(lines))
    elif kind == "rename":
        file.rename(file.with_stem(f"{file.stem}{value}"))
    elif kind == "swap":
        rewritten(train, b"b/c\na\n")
    elif kind == "labels":
        text = ["{0: car, 1: road, 2: car}", "{0: road, 1: road, 2: car}", "{0: car, 1: car, 2: road}"][place % 3]
        rewritten(root / "dataset.yaml", DESCRIPTION.replace("{0: road, 1: car, 2: car}", text).encode())
    else:
        other = root / file.relative_to(root).parts[0] / "d.png"
        if other == file:
            other = other.with_stem("a")
        content = file.read_bytes()
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)


def samples(root: Path) -> list[tuple[str, Sample]]:
    data = Folder(root)
    splits = [(name, data.split(name)) for name in data.splits]
    return [(name, split[index]) for name, split in splits for index in range(len(split))]


def alike(first: list[tuple[str, Sample]], second: list[tuple[str, Sample]]) -> bool:
    if [(split, sample.name) for split, sample in first] != [(split, sample.name) for split, sample in second]:
        return False
    both = list(zip(first, second, strict=True))
    images = all(torch.equal(one.image, other.image) for (_, one), (_, other) in both)
    return images and all(torch.equal(one.mask, other.mask) for (_, one), (_, other) in both)


@pytest.fixture
def _remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files for old enough to be remembered, so that what is remembered could lie."""
    monkeypatch.setattr(hashes, "SETTLED", -1)


@pytest.mark.usefixtures("_remembered")
@pytest.mark.parametrize("examples", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_no_change_keeps_the_fingerprint(contents: dict[str, bytes], examples: int) -> None:
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(changes)
    def holds(what: Change) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name, content in contents.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            before, fingerprint = samples(root), Folder(root).fingerprint()
            assert Folder(root).fingerprint() == fingerprint
            time.sleep(TICK)
            change(root, *what)
            try:
                if Folder(root).fingerprint() == fingerprint:
                    # A text can say the same in other bytes, such as another line end.
                    assert what[0] == "byte of text"
                    assert alike(samples(root), before)
            except DataError:
                pass

    holds()
