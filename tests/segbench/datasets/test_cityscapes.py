from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segbench.datasets.cityscapes import Cityscapes
from segbench.errors import DataError

Write = Callable[..., None]


@pytest.fixture
def root(tmp_path: Path, write: Write) -> Path:
    for split, city in (("train", "ulm"), ("train", "bonn"), ("val", "jena")):
        name = f"{city}_000000_000019"
        write(tmp_path / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", np.zeros((4, 9, 3)))
        write(tmp_path / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", np.arange(36).reshape(4, 9) % 34)
    return tmp_path


def test_label_ids_become_train_ids(root: Path) -> None:
    mask = Cityscapes(root).split("val")[0].mask.flatten().tolist()
    # From the official table of labels: road 7, sidewalk 8, building 11, sky 23, rider 25, bicycle 33.
    assert [mask[label] for label in (7, 8, 11, 23, 25, 33)] == [0, 1, 2, 10, 12, 18]
    assert sorted(label for label in mask[:34] if label != 255) == list(range(19))
    assert [mask[label] for label in (0, 1, 6, 9, 10, 14, 18, 29, 30)] == [255] * 9


def test_label_train_ids_are_taken_where_all_are_there(root: Path, write: Write) -> None:
    for city in ("ulm", "bonn"):
        assert 7 in np.arange(36).reshape(4, 9)
        path = root / "gtFine" / "train" / city / f"{city}_000000_000019_gtFine_labelTrainIds.png"
        write(path, np.full((4, 9), 18))
        mask = Cityscapes(root).split("train")[1 if city == "ulm" else 0].mask
        assert (mask == 18).all() == (city == "bonn")
    assert (Cityscapes(root).split("train")[1].mask == 18).all()


def test_an_id_outside_the_map_is_an_error_that_names_the_file(root: Path, write: Write) -> None:
    write(root / "gtFine" / "val" / "jena" / "jena_000000_000019_gtFine_labelIds.png", np.full((4, 9), 40))
    with pytest.raises(DataError, match=r"jena_000000_000019_gtFine_labelIds\.png: mask holds label 40"):
        Cityscapes(root).split("val")[0]


def test_samples_come_in_the_order_of_their_names(root: Path) -> None:
    split = Cityscapes(root, size=(2, 5)).split("train")
    assert [split[index].name for index in range(2)] == ["bonn_000000_000019", "ulm_000000_000019"]
    assert split[0].image.shape == (3, 2, 5)


def test_missing_files_say_which_and_where_to_get_them(root: Path, tmp_path: Path) -> None:
    (root / "gtFine" / "val" / "jena" / "jena_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"jena_000000_000019_gtFine_labelIds\.png: no such file"):
        Cityscapes(root).split("val")[0]
    with pytest.raises(DataError, match=r"leftImg8bit.train: no such folder.*get leftImg8bit_trainvaltest"):
        Cityscapes(tmp_path / "nowhere").split("train")
    with pytest.raises(DataError, match="it has train, val"):
        Cityscapes(root).split("test")


def test_the_real_images_load(real_data: Path) -> None:
    data = Cityscapes(real_data / "cityscapes-sample", size=(128, 256))
    assert (len(data.split("train")), len(data.split("val"))) == (2, 1)
    mask = data.split("val")[0].mask
    assert mask.shape == (128, 256)
    # More than a third of the frame is road.
    assert (mask == 0).float().mean() > 0.33
    assert len(data.classes) == len(data.palette) == 19
