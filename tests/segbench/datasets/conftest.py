from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image


class Layout(NamedTuple):
    """A data set as its authors, or those who prepare it for everyone, lay it out.

    Attributes:
        pairs: names of an image and its mask, by split; their order is that of the samples.
        values: values that masks may hold.
        classes: what each of them means.
        beside: files that are there too, and are in no split.
        lists: list files and what they hold.
    """

    pairs: dict[str, list[tuple[str, str]]]
    values: list[int]
    classes: list[int]
    beside: tuple[str, ...] = ()
    lists: tuple[tuple[str, str], ...] = ()


def _acdc(condition: str, split: str, sequence: str, frame: str) -> tuple[str, str]:
    stem = f"{condition}/{split}/{sequence}/{sequence}_frame_{frame}"
    return f"rgb_anon/{stem}_rgb_anon.png", f"gt/{stem}_gt_labelIds.png"


def _night(frame: str) -> tuple[str, str]:
    stem = f"val/night/GOPR0356/GOPR0356_frame_{frame}"
    return f"rgb_anon/{stem}_rgb_anon.png", f"gt/{stem}_gt_labelTrainIds.png"


def _context(name: str) -> tuple[str, str]:
    return f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg", f"VOCdevkit/VOC2010/SegmentationClassContext/{name}.png"


def _ade(split: str, name: str) -> tuple[str, str]:
    return f"ADEChallengeData2016/images/{split}/{name}.jpg", f"ADEChallengeData2016/annotations/{split}/{name}.png"


def _bdd(split: str, name: str) -> tuple[str, str]:
    return f"bdd100k/images/10k/{split}/{name}.jpg", f"bdd100k/labels/sem_seg/masks/{split}/{name}.png"


def _coco(split: str, name: str) -> tuple[str, str]:
    return f"images/{split}/{name}.jpg", f"annotations/{split}/{name}_labelTrainIds.png"


LAYOUTS = {
    "ade20k": Layout(
        {
            "train": [_ade("training", "ADE_train_00000001"), _ade("training", "ADE_train_00000002")],
            "val": [_ade("validation", "ADE_val_00000001")],
        },
        values=[0, 1, 150, 13],
        classes=[255, 0, 149, 12],
        beside=("ADEChallengeData2016/sceneCategories.txt", "ADEChallengeData2016/objectInfo150.txt"),
    ),
    "ade20k-background": Layout(
        {"train": [_ade("training", "ADE_train_00000001")], "val": [_ade("validation", "ADE_val_00000001")]},
        values=[0, 1, 150, 13],
        classes=[0, 1, 150, 13],
    ),
    "acdc": Layout(
        {
            "train": [_acdc("fog", "train", "GOPR0475", "000041"), _acdc("snow", "train", "GOPR0122", "000009")],
            "val": [
                _acdc("fog", "val", "GOPR0476", "000854"),
                _acdc("night", "val", "GOPR0356", "000321"),
                _acdc("night", "val", "GOPR0356", "000324"),
                _acdc("rain", "val", "GOPR0402", "000155"),
            ],
        },
        values=[7, 33, 0, 29, 255, 24],
        classes=[0, 18, 255, 255, 255, 11],
        beside=(
            "rgb_anon/fog/test/GOPR0477/GOPR0477_frame_000001_rgb_anon.png",
            "rgb_anon/fog/val_ref/GOPR0476/GOPR0476_frame_000854_rgb_ref_anon.png",
            "gt/fog/val/GOPR0476/GOPR0476_frame_000854_gt_labelColor.png",
            "gt/fog/val/GOPR0476/GOPR0476_frame_000854_gt_labelTrainIds.png",
            "gt/fog/val/GOPR0476/GOPR0476_frame_000854_gt_invIds.png",
        ),
    ),
    "bdd100k": Layout(
        {"train": [_bdd("train", "0004a4c0-d4dff0ad")], "val": [_bdd("val", "7d06fefd-f7be05a6")]},
        values=[0, 18, 255],
        classes=[0, 18, 255],
        beside=("bdd100k/images/10k/test/ac6d4f42-00000000.jpg", "bdd100k/labels/sem_seg/colormaps/val/a.png"),
    ),
    "dark-zurich": Layout(
        {"val": [_night("000321"), _night("000324")]},
        values=[0, 18, 255],
        classes=[0, 18, 255],
        beside=(
            "rgb_anon/val_ref/day/GOPR0356_ref/GOPR0356_frame_000321_ref_rgb_anon.png",
            "gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_labelIds.png",
            "gps/val/night/GOPR0356/GOPR0356_frame_000321_gps.txt",
        ),
    ),
    "pascal-context": Layout(
        {"train": [_context("2008_000002"), _context("2008_000003")], "val": [_context("2008_000004")]},
        values=[0, 1, 55, 59],
        classes=[255, 0, 54, 58],
        beside=("VOCdevkit/VOC2010/JPEGImages/2007_000027.jpg",),
        lists=(
            ("VOCdevkit/VOC2010/ImageSets/SegmentationContext/train.txt", "2008_000002\n2008_000003\n"),
            ("VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt", "2008_000004\n"),
        ),
    ),
    "coco-stuff": Layout(
        {"train": [_coco("train2017", "000000000009")], "val": [_coco("val2017", "000000000139")]},
        values=[0, 170, 255],
        classes=[0, 170, 255],
        beside=("annotations/val2017/000000000139.png",),
    ),
}


@pytest.fixture
def layouts() -> dict[str, Layout]:
    """The data sets that segbench describes, as they are published."""
    return LAYOUTS


@pytest.fixture
def write_layout(tmp_path: Path, write: Callable[..., None]) -> Callable[[str], Path]:
    """Write a small data set in its published layout: image k is of the grey k, masks hold all values in a row."""

    def save(name: str) -> Path:
        layout, root = LAYOUTS[name], tmp_path / name
        for pairs in layout.pairs.values():
            for index, (image, mask) in enumerate(pairs):
                write(root / image, np.full((3, len(layout.values), 3), index))
                write(root / mask, [layout.values] * 3)
        for file in layout.beside:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(b"something else")
        for file, lines in layout.lists:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(lines)
        return root

    return save


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


@pytest.fixture
def hf_root(tmp_path: Path) -> Path:
    """A data set of the library `datasets` as it writes them, with its description."""
    hub = pytest.importorskip("datasets", reason="the library datasets is not installed")
    root = tmp_path / "hub"
    rows = {
        "image": [Image.fromarray(np.full((3, 4, 3), shade, np.uint8)) for shade in (0, 9)],
        "annotation": [Image.fromarray(np.full((3, 4), label, np.uint8)) for label in (0, 1)],
    }
    table = hub.Dataset.from_dict(rows, features=hub.Features(dict.fromkeys(rows, hub.Image())))
    hub.DatasetDict({"train": table, "validation": table}).save_to_disk(root)
    (root / "dataset.yaml").write_text("classes: [road, car]\n")
    return root
