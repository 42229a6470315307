from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.datasets.camvid import Camvid
from segbench.errors import DataError


def test_lists_with_the_tutorials_prefix_work(camvid_root: Path) -> None:
    data = Camvid(camvid_root, size=None)
    assert data.splits == ("train", "val")
    assert (len(data.split("train")), len(data.split("val"))) == (3, 2)
    raw = np.array(Image.open(camvid_root / "trainannot" / "1.png"))
    mask = data.split("train")[1].mask.numpy()
    assert 11 in raw
    assert np.array_equal(mask, np.where(raw == 11, 255, raw))


def test_size_is_height_and_width(camvid_root: Path) -> None:
    sample = Camvid(camvid_root, size=(4, 10)).split("val")[0]
    assert sample.image.shape == (3, 4, 10)
    assert sample.mask.shape == (4, 10)


def test_a_test_list_is_one_more_split(camvid_root: Path) -> None:
    before = Camvid(camvid_root).fingerprint()
    (camvid_root / "test.txt").write_text("val/0.png valannot/0.png\n")
    data = Camvid(camvid_root)
    assert data.splits == ("train", "val", "test")
    assert len(data.split("test")) == 1
    assert data.fingerprint() != before


def test_fingerprint_follows_files_and_size(camvid_root: Path) -> None:
    first = Camvid(camvid_root).fingerprint()
    assert Camvid(camvid_root).fingerprint() == first
    assert Camvid(camvid_root, size=None).fingerprint() != first
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(camvid_root / "valannot" / "0.png")
    assert Camvid(camvid_root).fingerprint() != first


def test_the_fingerprint_holds_the_split_of_every_file(camvid_root: Path) -> None:
    first = Camvid(camvid_root).fingerprint()
    train, val = ((camvid_root / f"{name}.txt").read_text().split("\n") for name in ("train", "val"))
    (camvid_root / "train.txt").write_text("\n".join(train[:2]))
    (camvid_root / "val.txt").write_text("\n".join([train[2], *val]))
    assert len(Camvid(camvid_root).split("val")) == 3
    assert Camvid(camvid_root).fingerprint() != first


def test_a_line_that_stands_twice_is_an_error_with_both_numbers(camvid_root: Path) -> None:
    (camvid_root / "val.txt").write_text("val/0.png valannot/0.png\n\n/CamVid/val\\0.png valannot/1.png\n")
    with pytest.raises(DataError, match=r"val\.txt:3: .* stands in line 1 already; keep one"):
        Camvid(camvid_root).split("val")


def test_a_list_in_another_encoding_is_refused(camvid_root: Path) -> None:
    (camvid_root / "val.txt").write_text("val/0.png valannot/0.png\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"val\.txt: is not UTF-8 .*; save it as UTF-8"):
        Camvid(camvid_root).split("val")


def test_images_in_no_list_are_named(camvid_root: Path) -> None:
    assert Camvid(camvid_root).warnings() == ()
    (camvid_root / "val.txt").write_text("val/1.png valannot/1.png\n")
    assert Camvid(camvid_root).warnings()[0].startswith(f"{camvid_root / 'val'}: 1 file (0.png) left out")


@pytest.mark.parametrize("name", ["test", "../val"])
def test_an_unknown_split_says_what_there_is(camvid_root: Path, name: str) -> None:
    with pytest.raises(DataError, match="camvid has the splits train, val"):
        Camvid(camvid_root).split(name)


def test_a_missing_folder_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; get the SegNet copy"):
        Camvid(tmp_path / "nowhere").split("train")


def test_a_bad_line_is_an_error_with_its_number(camvid_root: Path) -> None:
    (camvid_root / "val.txt").write_text("val/0.png valannot/0.png\nval/1.png\n")
    with pytest.raises(DataError, match=r"val\.txt:2: a line names an image and its mask"):
        Camvid(camvid_root).split("val")


def test_the_real_images_load(real_data: Path) -> None:
    data = Camvid(real_data / "camvid")
    assert (len(data.split("train")), len(data.split("val"))) == (367, 101)
    sample = data.split("val")[0]
    assert sample.image.shape == (3, 120, 160)
    assert len(data.classes) == len(data.palette) == 11
