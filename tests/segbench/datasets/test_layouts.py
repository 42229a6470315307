"""A folder of one's own whose dataset.yaml says where the files lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segbench.datasets.folder import Folder
from segbench.datasets.tools.check import check
from segbench.errors import DataError

Write = Callable[..., None]


def described(root: Path, text: str) -> Folder:
    root.mkdir(exist_ok=True)
    (root / "dataset.yaml").write_text(text)
    return Folder(root)


def names(data: Folder, split: str) -> list[str]:
    found = data.split(split)
    return [found[index].name for index in range(len(found))]


def test_mmsegmentations_layout_is_read(tmp_path: Path, write: Write) -> None:
    for split in ("train", "val"):
        write(tmp_path / "img_dir" / split / "a" / "0.jpg", np.zeros((3, 4, 3)))
        write(tmp_path / "ann_dir" / split / "a" / "0_labelTrainIds.png", np.ones((3, 4)))
        write(tmp_path / "ann_dir" / split / "a" / "0_color.png", np.ones((3, 4, 3)))
    text = "images: img_dir/{split}\nmasks: ann_dir/{split}/**_labelTrainIds.png\nclasses: [road, car]\n"
    data = described(tmp_path, text)
    assert names(data, "val") == ["a/0"]
    assert (data.split("val")[0].mask == 1).all()
    assert check(data).warnings[0].startswith(f"{tmp_path / 'ann_dir'}: 2 files (train/a/0_color.png")
    (tmp_path / "ann_dir" / "val" / "a" / "0_labelTrainIds.png").unlink()
    with pytest.raises(DataError, match=r"ann_dir/val/a/0_labelTrainIds\.png: no such file"):
        data.split("val")[0]


def test_splits_may_have_other_words_and_lists_may_go_with_patterns(tmp_path: Path, write: Write) -> None:
    for word, name in (("training", "a"), ("validation", "b"), ("validation", "c")):
        write(tmp_path / "rgb" / word / f"{name}_rgb.png", np.zeros((3, 4, 3)))
        write(tmp_path / "gt" / word / f"{name}_ids.png", np.ones((3, 4)))
    patterns = "images: rgb/{split}/*_rgb.png\nmasks: gt/{split}/*_ids.png\n"
    said = "splits: {train: training, val: validation, all: '*'}\nlike: cityscapes\n"
    data = described(tmp_path, patterns + said)
    assert (names(data, "train"), names(data, "val")) == (["a"], ["b", "c"])
    assert names(data, "all") == ["training/a", "validation/b", "validation/c"]
    assert data.classes[:2] == ("road", "sidewalk")
    (tmp_path / "some.txt").write_text("validation/c\n")
    listed = "images: rgb/*/*_rgb.png\nmasks: gt/*/*_ids.png\nsplits: {val: some.txt}\nclasses: [road, car]\n"
    assert names(described(tmp_path, listed), "val") == ["validation/c"]


def test_files_may_lie_in_a_folder_below(tmp_path: Path, write: Write) -> None:
    for kind, shape in (("images", (3, 4, 3)), ("masks", (3, 4))):
        write(tmp_path / "archive" / kind / "val" / "a.png", np.zeros(shape))
    data = described(tmp_path, "within: [archive, other]\nclasses: [road, car]\nsplits: [val]\nlengths: {val: 2}\n")
    assert names(data, "val") == ["a"]
    assert "val: the official split has 2 images, this one 1" in check(data).warnings


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("images: ../x\nmasks: y", [r":1: images: '\.\./x' leads out of the folder"]),
        ("images: x/{split}", [":1: images says where files lie, and masks does not; write both"]),
        ("images: x/{splt}\nmasks: y/{split}", [r":1: images: there is no \{splt\}; there are \{split\}"]),
        ("images: x/{split}/*/*.png\nmasks: y/{split}/*.png", [":2: images has 2 wildcards and masks 1; an image"]),
        ("images: x/{split}/a.PNG\nmasks: y/{split}", [r":1: images: 'x/{split}/a.PNG' is one file; write \*"]),
        ("images: x/{split}\nmasks: y/{split}/a.png", [r":2: masks: 'y/{split}/a.png' is one file; write \*"]),
        ("images: x/{split}\nmasks: y/{split}/*.jpg", [r":2: masks end in \.png, .*: other formats change labels"]),
        ("images: x/*.png\nmasks: y/*.png", [r":1: images: nothing tells the splits apart; write \{split\}"]),
        ("splits: {train: ../a, val: b}", [r":1: splits: '\.\./a' leads out of the folder"]),
        ("name: Leaves", [":1: name: 'Leaves' is no name; write up to 40 small letters, digits"]),
        ("maskes: x", [":1: there is no key 'maskes'; did you mean 'masks'"]),
        ("background: none", [":1: background precedes the classes of like; without like, write it into classes"]),
        ("like: cityscape", [":1: like: there is no description 'cityscape'; did you mean 'cityscapes'"]),
        ("options: {a: [b, c]}", ["options are for the data sets of segbench; use splits instead"]),
        ("lengths: {val: 0}", [":1: lengths.val: "]),
    ],
)
def test_mistakes_have_their_line(tmp_path: Path, text: str, messages: list[str]) -> None:
    with pytest.raises(DataError) as error:
        described(tmp_path, f"{text}\nclasses: [road, car]\n")
    for message in messages:
        error.match(rf"dataset\.yaml.*{message}")


def test_like_and_classes_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r":2: classes and like say the same in different ways; keep one"):
        described(tmp_path, "like: cityscapes\nclasses: [road, car]\n")


def test_no_file_of_a_pattern_is_told(tmp_path: Path) -> None:
    (tmp_path / "x" / "val").mkdir(parents=True)
    (tmp_path / "y" / "val").mkdir(parents=True)
    data = described(tmp_path, "images: x/{split}/*_a.png\nmasks: y/{split}/*_b.png\nclasses: [road, car]\n")
    with pytest.raises(DataError, match=r"no file is x/val/\*_a\.png; dataset\.yaml says that there is one"):
        data.split("val")
