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
        ("classes: [a", ["not valid YAML"]),
    ],
)
def test_mistakes_in_the_description_are_named_all_at_once(root: Path, text: str, messages: list[str]) -> None:
    (root / "dataset.yaml").write_text(text)
    with pytest.raises(DataError) as error:
        Folder(root)
    for message in messages:
        error.match(rf"dataset\.yaml:\d+: .*{message}")


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


def listed(root: Path, text: str | bytes) -> Folder:
    """Return the folder with one split, "val", whose list holds a text."""
    (root / "val.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    (root / "dataset.yaml").write_text("classes: [road, car]\nsplits: {val: val.txt}\n")
    return Folder(root)


def names(data: Folder) -> list[str]:
    split = data.split("val")
    return [split[index].name for index in range(len(split))]


def test_masks_are_read_as_the_description_says(root: Path, write: Write) -> None:
    (root / "dataset.yaml").write_text("classes: [road, car]\nlabels: {1: road, 300: car}\nignore_index: [0, -1]\n")
    write(root / "masks" / "val" / "0.png", [[0, 1, 300, 65535, 1, 1]] * 5, bits=16)
    write(root / "masks" / "val" / "1.png", [[0, 1, 1, 255, 1, 1]] * 5)
    split = Folder(root).split("val")
    assert [split[index].mask[0].tolist() for index in range(2)] == [[255, 0, 1, 255, 0, 0], [255, 0, 0, 255, 0, 0]]


def test_masks_may_hold_colours(root: Path, write: Write) -> None:
    colours = "{road: [128, 64, 128], car: [[0, 0, 142], [0, 0, 70]], void: [0, 0, 0]}"
    (root / "dataset.yaml").write_text(f"classes: [road, car]\ncolors: {colours}\n")
    row = [(128, 64, 128), (0, 0, 142), (0, 0, 70), (0, 0, 0), (0, 0, 0), (0, 0, 0)]
    write(root / "masks" / "val" / "0.png", [row] * 5)
    write(root / "masks" / "val" / "1.png", np.full((5, 6, 3), 9))
    data = Folder(root)
    assert data.split("val")[0].mask[0].tolist() == [0, 1, 1, 255, 255, 255]
    assert data.palette == ((128, 64, 128), (0, 0, 142))
    with pytest.raises(DataError, match=r"1\.png: mask holds colour \[9, 9, 9\], but only \[0, 0, 0\], \[0, 0, 70\]"):
        data.split("val")[1]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffval/0\r\nval/1\r\n",
        "val\\0\nval\\1\n",
        "# my list\n\n  val/0  \n./val/1",
        "val/0.jpg\nval/1.PNG\n",
    ],
)
def test_lists_may_be_written_in_these_ways(root: Path, text: str) -> None:
    assert names(listed(root, text)) == ["val/0", "val/1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val/0\nval/1\nval/0\n", r"val\.txt:3: 'val/0' stands in line 1 already; keep one"),
        ("val/0\n\n# again\n./val/0.jpg\n", r"val\.txt:4: '\./val/0\.jpg' stands in line 1 already"),
        ("val/0\n../../etc/passwd\n", r"val\.txt:2: '\.\./\.\./etc/passwd' leads out of the folder"),
        ("/etc/passwd\n", r"val\.txt:1: '/etc/passwd' leads out of the folder"),
        ("val/0\n".encode("utf-16"), r"val\.txt: is not UTF-8 but looks like UTF-16; save it as UTF-8"),
    ],
)
def test_bad_lists_are_refused(root: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed(root, text).split("val")


def test_a_name_that_no_file_can_have_is_a_missing_file(root: Path) -> None:
    with pytest.raises(DataError, match="no such file, but sample 'aaa"):
        listed(root, "a" * 300).split("val")[0]


def test_letters_that_are_written_in_two_ways_are_the_same(root: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (root / "images" / "val" / "0.jpg").rename(root / "images" / "val" / f"{decomposed}.jpg")
    (root / "masks" / "val" / "0.png").rename(root / "masks" / "val" / f"{composed}.png")
    assert names(Folder(root)) == ["1", composed]
    assert names(listed(root, f"val/{decomposed}\n")) == [f"val/{composed}"]
    (root / "images" / "val" / f"{composed}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="has the same name; keep one"):
        Folder(root).split("val")


def test_links_to_folders_are_followed(root: Path, write: Write) -> None:
    for kind, shape in (("images", (5, 6, 3)), ("masks", (5, 6))):
        for index in range(2):
            write(root / f"more {kind}" / "deep" / f"{index}.png", np.zeros(shape))
        (root / kind / "val" / "linked").symlink_to(root / f"more {kind}", target_is_directory=True)
    assert names(Folder(root)) == ["0", "1", "linked/deep/0", "linked/deep/1"]
    for kind in ("images", "masks"):
        (root / kind / "val" / "twice").symlink_to(root / f"more {kind}" / "deep", target_is_directory=True)
    with pytest.raises(DataError, match=r"twice/0\.png: is the same file as .*linked/deep/0\.png; keep one"):
        Folder(root).split("val")


@pytest.mark.parametrize("name", ["lost.png", "lost"])
def test_a_link_to_nothing_is_an_error(root: Path, name: str) -> None:
    (root / "images" / "val" / name).symlink_to(root / "nowhere")
    with pytest.raises(DataError, match=rf"{name}: is a link to nothing"):
        Folder(root).split("val")


def test_a_link_into_itself_is_an_error(root: Path) -> None:
    (root / "images" / "val" / "around").symlink_to(root / "images", target_is_directory=True)
    with pytest.raises(DataError, match=r"is a link that leads back to .*, a folder around it; remove it"):
        Folder(root).split("val")
    (root / "images" / "val" / "around").unlink()
    (root / "images" / "val" / "self").symlink_to("self")
    with pytest.raises(DataError, match=r"self: is a link to nothing"):
        Folder(root).split("val")


def test_endings_may_be_capitals(root: Path) -> None:
    (root / "images" / "val" / "0.jpg").rename(root / "images" / "val" / "0.JPG")
    (root / "masks" / "val" / "0.png").rename(root / "masks" / "val" / "0.PNG")
    assert names(Folder(root)) == ["0", "1"]


def test_names_that_differ_in_case_are_told(root: Path) -> None:
    (root / "images" / "val" / "0.jpg").rename(root / "images" / "val" / "Abc.jpg")
    (root / "masks" / "val" / "0.png").rename(root / "masks" / "val" / "abc.png")
    with pytest.raises(DataError, match=r"masks/val/Abc\.png: no such file, .*; there is abc\.png"):
        Folder(root).split("val")[1]


def test_every_file_that_no_sample_uses_is_named(root: Path, write: Write) -> None:
    assert Folder(root).warnings() == ()
    for name in ("val/a.tif16", "val/b.jp2", "val/c.npy", "val/d.txt", "val/.hidden.png", ".cache/e.png", "test/f.png"):
        (root / "images" / name).parent.mkdir(exist_ok=True)
        (root / "images" / name).write_bytes(b"something")
    write(root / "masks" / "stray.png", np.zeros((5, 6)))
    told = "left out, hidden, in no split, or of no format that is read"
    assert Folder(root).warnings() == (
        f"{root / 'images'}: 7 files (.cache/e.png, test/f.png and 5 more) {told}",
        f"{root / 'masks'}: 1 file (stray.png) {told}",
    )
    assert names(Folder(root)) == ["0", "1"]
    assert (
        listed(root, "val/1\n").warnings()[1] == f"{root / 'masks'}: 4 files (stray.png, train/0.png and 2 more) {told}"
    )


def test_the_fingerprint_holds_the_split_of_every_file(root: Path) -> None:
    (root / "dataset.yaml").write_text("classes: [road, car]\nsplits: {train: train.txt, val: val.txt}\n")
    prints = []
    for train, val in (("train/0 train/1", "val/0"), ("train/0", "train/1 val/0"), ("train/1 train/0", "val/0")):
        (root / "train.txt").write_text(train.replace(" ", "\n"))
        (root / "val.txt").write_text(val.replace(" ", "\n"))
        prints.append(Folder(root).fingerprint())
    assert len(set(prints)) == 3


def test_the_fingerprint_follows_what_labels_mean(root: Path) -> None:
    meanings = [
        "",
        "labels: {0: road, 1: car}",
        "labels: {0: car, 1: road}",
        "labels: {0: road, 1: car, 2: car}",
        "ignore_index: 9",
        "ignore_index: [9, 255]",
        "ignore_index: -1",
        "reduce_zero_label: true",
        "colors: {road: [0, 0, 0], car: [1, 1, 1]}",
    ]
    prints = []
    for text in meanings:
        (root / "dataset.yaml").write_text(f"classes: [road, car]\n{text}\n")
        prints.append(Folder(root).fingerprint())
    # The second says what is meant where nothing is said.
    assert prints[0] == prints[1]
    assert len(set(prints)) == len(prints) - 1


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_an_impossible_size_is_an_error(root: Path, size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"folder: 'size' is \[height, width\] in pixels, each at least 1"):
        Folder(root, size=size)
