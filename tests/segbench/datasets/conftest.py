from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def write() -> Callable[..., None]:
    """Write an array as an image file, with its folders."""

    def save(path: Path, array: object, bits: int = 8, **options: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(array, dtype=np.uint8 if bits == 8 else np.uint16)).save(path, **options)

    return save


@pytest.fixture
def camvid_root(tmp_path: Path, write: Callable[..., None]) -> Path:
    """A CamVid of three train and two val images of 6x8, with lists as the SegNet tutorial has them."""
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        lines = []
        for index in range(count):
            write(root / split / f"{index}.png", rng.integers(0, 256, (6, 8, 3)))
            write(root / f"{split}annot" / f"{index}.png", rng.integers(0, 12, (6, 8)))
            lines.append(f"/SegNet/CamVid/{split}/{index}.png /SegNet/CamVid/{split}annot/{index}.png")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n\n")
    return root


@pytest.fixture
def kitti_root(tmp_path: Path, write: Callable[..., None]) -> Path:
    """KITTI's 200 labelled images, 2x3, each of the colour of its number."""
    root = tmp_path / "kitti"
    for number in range(200):
        write(root / "training" / "image_2" / f"{number:06d}_10.png", np.full((2, 3, 3), number))
        write(root / "training" / "semantic" / f"{number:06d}_10.png", [[7, 8, 11], [0, 255, 33]])
    return root
