from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segbench.config.matrix import Augmentation, Matrix, Recipe
from segbench.datasets.camvid import Camvid
from segbench.datasets.digits import Digits
from segbench.defenses.multitask import Multitask
from segbench.defenses.multitask_depth import MultitaskDepth
from segbench.errors import DataError
from segbench.execution import prepare
from segbench.plan.traits import toy_segmenter
from segbench.store import Store
from segbench.training import batches

RECIPE = Recipe(batch_size=2, iterations=1, augmentation=Augmentation(flip=0.5, crop=(20, 24)))


class Tag(NamedTuple):
    name: str


class Deep:
    """A dataset whose depth is ten times its label, a void pixel's not known."""

    tag = Tag("deep")

    def __init__(self, digits: Digits) -> None:
        self.digits = digits

    def split(self, name: str) -> Any:
        return self.digits.split(name)

    def depth(self, split: str) -> list[Tensor]:
        masks = [self.digits.split(split)[index].mask for index in range(4)]
        return [torch.where(mask == 255, 0, mask * 10 + 1).float() for mask in masks]


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """A CamVid of one image a split."""
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
            shape = (6, 8, 3) if folder == split else (6, 8)
            Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "camvid" / folder / "0.png")
        (tmp_path / "camvid" / f"{split}.txt").write_text(f"{split}/0.png {split}annot/0.png\n")
    return tmp_path / "camvid"


@pytest.fixture
def digits() -> Digits:
    return Digits(train=4, size=32)


def test_an_item_has_what_is_needed_and_no_more(digits: Digits) -> None:
    plain = batches.TrainingImages(digits, RECIPE, 0)[2, 1]
    assert set(plain) == {"images", "masks"}
    video = batches.TrainingImages(digits, RECIPE, 0, ("clips",))[2, 1]
    assert set(video) == {"images", "masks", "frames", "intrinsics"}
    assert torch.equal(video["images"], plain["images"])
    assert torch.equal(video["masks"], plain["masks"])
    assert video["frames"].shape == (3, 3, 20, 24)
    assert video["intrinsics"].shape == (3, 3)


def test_an_item_depends_on_seed_and_key_alone(digits: Digits) -> None:
    first, again = (batches.TrainingImages(digits, RECIPE, 0, ("clips",)) for _ in range(2))
    items = [first[0, 0], first[1, 0], first[0, 3]]
    for key, item in zip(((0, 3), (1, 0), (0, 0)), reversed(items), strict=True):
        for name, value in again[key].items():
            assert torch.equal(value, item[name])
    other = batches.TrainingImages(digits, RECIPE, 1, ("clips",))
    seen = [item["frames"] for item in (*items, other[0, 0])]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_depth_stays_on_the_grid_of_the_mask(digits: Digits) -> None:
    changes = Augmentation(scale=(0.5, 2), rotate=10, flip=0.5, crop=(40, 40))
    recipe = Recipe(batch_size=2, iterations=1, augmentation=changes)
    images = batches.TrainingImages(Deep(digits), recipe, 0, ("depth",))
    for epoch in range(5):
        for index in range(4):
            item = images[epoch, index]
            expected = torch.where(item["masks"] == 255, 0, item["masks"] * 10 + 1).float()
            assert torch.equal(item["depth"], expected)


def test_depth_of_another_size_is_an_error(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deep, "depth", lambda self, split: [torch.zeros(3, 5)])
    with pytest.raises(DataError, match="train-00000: its depth is 3x5 and its image 32x32"):
        batches.TrainingImages(Deep(digits), RECIPE, 0, ("depth",))[0, 0]


def test_a_dataset_without_video_or_depth_says_which_have_it(camvid: Path) -> None:
    data = Camvid(camvid)
    with pytest.raises(DataError, match="learns from video, which camvid does not have; cityscapes, digits, kitti do"):
        batches.extras(data, "train", ("clips",))
    with pytest.raises(DataError, match="from the depth of images, which camvid does not have; cityscapes, kitti do"):
        batches.extras(data, "train", ("depth",))
    assert batches.extras(data, "train", ()) == (None, None)


@pytest.mark.parametrize("defense", ["multitask-depth", "multitask(tasks=[depth])"])
def test_a_plan_is_refused_where_its_data_has_not_what_a_defense_learns_from(
    camvid: Path, tiny_matrix: Callable[..., Matrix], tmp_path: Path, defense: str
) -> None:
    data = {"data": {"camvid": str(camvid)}, "device": "cpu"}
    matrix = tiny_matrix(dataset="camvid", defenses=["none", defense], transfer=None, runtime=data)
    for plan in (prepare.tentative_plan, lambda matrix: prepare.checked_plan(matrix, Store(tmp_path))):
        with pytest.raises(DataError, match=r"multitask.*: a defense learns from .*, which camvid does not have"):
            plan(matrix)


def test_the_loss_of_clips_is_added() -> None:
    torch.manual_seed(0)
    defense = MultitaskDepth(toy_segmenter()).train()
    batch = {
        "images": torch.rand(2, 3, 16, 16),
        "masks": torch.zeros(2, 16, 16).long(),
        "frames": torch.rand(2, 3, 3, 16, 16),
        "intrinsics": torch.eye(3).repeat(2, 1, 1),
    }
    whole = batches.loss(defense, batch, 0, 0)
    still = defense.loss(batch["images"], batch["masks"], torch.Generator())
    video = defense.video_loss(batch["frames"], batch["intrinsics"], torch.Generator())
    torch.testing.assert_close(whole.total, still.total + video.total)
    assert set(whole.terms) == {"main", "auxiliary", "photometric", "smoothness"}


def test_depth_reaches_the_loss() -> None:
    torch.manual_seed(0)
    defense = Multitask(toy_segmenter(), tasks=("depth",)).train()
    batch = {"images": torch.rand(2, 3, 8, 8), "masks": torch.zeros(2, 8, 8).long(), "depth": torch.ones(2, 8, 8)}
    assert batches.loss(defense, batch, 0, 0).terms["depth"] > 0
    assert batches.loss(defense, {**batch, "depth": torch.zeros(2, 8, 8)}, 0, 0).terms["depth"] == 0
