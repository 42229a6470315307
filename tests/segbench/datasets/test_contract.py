"""What every dataset in the catalog promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segbench.components import catalog, specs
from segbench.datasets.base import Dataset
from segbench.errors import DataError

FOLDERS = {"camvid": "camvid", "voc2012": "voc2012-2007", "cityscapes": "cityscapes-sample"}
NAMES = sorted(catalog.components("dataset"))


@pytest.fixture(params=NAMES)
def data(request: pytest.FixtureRequest, tmp_path: Path, write: Callable[..., None]) -> Dataset:
    bound = specs.bound("dataset", request.param)
    made: Dataset
    if request.param == "folder":
        for split in ("train", "val"):
            write(tmp_path / "images" / split / "a.png", np.zeros((4, 5, 3)))
            write(tmp_path / "masks" / split / "a.png", np.full((4, 5), 1))
        (tmp_path / "dataset.yaml").write_text("classes: [a, b]")
        made = bound.make(root=tmp_path)
    elif request.param == "hf-dataset":
        made = bound.make(root=request.getfixturevalue("hf_root"))
    elif request.param == "digits":
        made = bound.make()
    elif request.param == "kitti":
        made = bound.make(root=request.getfixturevalue("kitti_root"))
    elif request.param in FOLDERS:
        made = bound.make(root=request.getfixturevalue("real_data") / FOLDERS[request.param])
    elif request.param in request.getfixturevalue("layouts"):
        made = bound.make(root=request.getfixturevalue("write_layout")(request.param))
    else:
        pytest.skip(f"no files for {request.param} are known here")
    return made


def test_classes_palette_and_splits(data: Dataset) -> None:
    assert len(set(data.classes)) == len(data.classes) == len(data.palette)
    assert all(len(colour) == 3 and min(colour) >= 0 and max(colour) <= 255 for colour in data.palette)
    assert data.ignore_index == 255
    assert "val" in data.splits
    with pytest.raises(DataError, match="no-such-split"):
        data.split("no-such-split")


def test_samples(data: Dataset) -> None:
    for name in {"train", "val"} & set(data.splits):
        split = data.split(name)
        for index in {0, len(split) - 1}:
            sample = split[index]
            assert sample.image.dtype == sample.mask.dtype == torch.uint8
            assert sample.image.shape == (3, *sample.mask.shape)
            assert all(label < len(data.classes) or label == 255 for label in sample.mask.unique().tolist())
            again = data.split(name)[index]
            assert again.name == sample.name
            assert torch.equal(again.image, sample.image)
            assert torch.equal(again.mask, sample.mask)


def test_fingerprints_repeat(data: Dataset) -> None:
    first = data.fingerprint()
    assert len(first) == 16
    assert data.fingerprint() == first
