from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segbench.datasets.folder import Folder
from segbench.errors import DataError

Write = Callable[..., None]


@pytest.fixture
def root(tmp_path: Path, write: Write) -> Path:
    folder = tmp_path / "mine"
    for split in ("train", "val"):
        for index in range(2):
            write(folder / "images" / split / f"{index}.jpg", np.full((5, 6, 3), 40 * index))
            write(folder / "masks" / split / f"{index}.png", np.full((5, 6), index))
    (folder / "dataset.yaml").write_text("classes: [road, car]\n")
    return folder


def test_classes_are_all_that_must_be_said(root: Path) -> None:
    data = Folder(root)
    assert data.classes == ("road", "car")
    assert len(set(data.palette)) == 2
    assert data.splits == ("train", "val")
    assert [data.split("val")[index].name for index in range(2)] == ["0", "1"]
    assert (data.split("val")[1].mask == 1).all()
    assert (data.split("val")[1].image == 40).all()


def test_void_of_any_label_becomes_255(root: Path, write: Write) -> None:
    (root / "dataset.yaml").write_text("{classes: [road, car], ignore_index: 9}")
    write(root / "masks" / "val" / "0.png", [[9, 0, 1, 1, 1, 1]] * 5)
    mask = Folder(root).split("val")[0].mask
    assert mask[0].tolist() == [255, 0, 1, 1, 1, 1]


def test_lists_name_the_samples_of_a_split(root: Path, write: Write) -> None:
    write(root / "images" / "a" / "one two.png", np.zeros((5, 6, 3)))
    write(root / "masks" / "a" / "one two.png", np.zeros((5, 6)))
    (root / "dataset.yaml").write_text("classes: [road, car]\nsplits: {train: fit.txt, odd: odd.txt}\n")
    (root / "fit.txt").write_text("train/1\ntrain/0\n")
    (root / "odd.txt").write_text("a/one two\n\nval/7\n")
    data = Folder(root)
    assert data.splits == ("train", "odd")
    assert [data.split("train")[index].name for index in range(2)] == ["train/1", "train/0"]
    assert data.split("odd")[0].name == "a/one two"
    with pytest.raises(DataError, match=r"7\.png: no such file"):
        data.split("odd")[1]


def test_half_a_pair_shows_when_it_is_read(root: Path) -> None:
    (root / "images" / "val" / "0.jpg").unlink()
    (root / "masks" / "train" / "1.png").unlink()
    data = Folder(root)
    with pytest.raises(DataError, match="0"):
        data.split("val")[0]
    with pytest.raises(DataError, match=r"masks.*1\.png: no such file"):
        data.split("train")[1]


def test_fingerprint_follows_everything(root: Path) -> None:
    prints = [Folder(root).fingerprint(), Folder(root, size=(3, 3)).fingerprint()]
    (root / "dataset.yaml").write_text("classes: [road, bus]\n")
    prints.append(Folder(root).fingerprint())
    (root / "images" / "val" / "1.jpg").rename(root / "images" / "val" / "2.jpg")
    prints.append(Folder(root).fingerprint())
    assert len(set(prints)) == 4


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("classes: [road]", ["classes: .*at least 2"]),
        ("classes: [road, road]", ["two classes have the same name"]),
        ("{classes: [a, b], palette: [[0, 0, 0]]}", ["palette has 1 colours for 2 classes"]),
        ("{classes: [a, b], ignore_index: 1}", ["ignore_index 1 is the label of a class"]),
        ("{classes: [a, b], palette: [[0, 0, 300], [1, 2]], pallete: 3}", ["palette.0.2", "palette.1", "pallete"]),
        ("classes: [a", ["is no YAML"]),
    ],
)
def test_mistakes_in_the_description_are_named_all_at_once(root: Path, text: str, messages: list[str]) -> None:
    (root / "dataset.yaml").write_text(text)
    with pytest.raises(DataError) as error:
        Folder(root)
    for message in messages:
        error.match(rf"dataset\.yaml: .*{message}")


def test_a_missing_description_says_what_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.yaml: cannot be read.*docs/data\.md"):
        Folder(tmp_path)


def test_a_missing_folder_is_an_error(root: Path) -> None:
    (root / "dataset.yaml").write_text("{classes: [a, b], splits: [train, extra]}")
    with pytest.raises(DataError, match=r"extra: no such folder"):
        Folder(root).split("extra")
    with pytest.raises(DataError, match="it names train, extra"):
        Folder(root).split("val")


def test_masks_in_a_lossy_format_are_refused(root: Path, write: Write) -> None:
    write(root / "masks" / "val" / "3.jpg", np.zeros((5, 6)))
    with pytest.raises(DataError, match=r"3\.jpg: this format changes labels"):
        Folder(root).split("val")


def test_two_images_of_one_name_are_an_error(root: Path, write: Write) -> None:
    write(root / "images" / "val" / "0.png", np.zeros((5, 6, 3)))
    with pytest.raises(DataError, match="has the same name"):
        Folder(root).split("val")
