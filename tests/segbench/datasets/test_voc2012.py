from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from segbench.datasets import voc2012
from segbench.datasets.voc2012 import Voc2012
from segbench.errors import DataError

Write = Callable[..., None]
TRAIN, VAL, SBD_TRAIN, SBD_VAL = ["a", "b"], ["c"], ["a", "d"], ["c", "e"]
AUG = ["a", "b", "d", "e"]
MASK = np.array([[0, 15, 255], [15, 15, 20]], np.uint8)
PLAIN = np.array([[0, 15, 15], [15, 15, 20]], np.uint8)


@pytest.fixture
def root(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A VOC of five images; train_aug is all but "c"."""
    voc = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    for name in "abcde":
        write(voc / "JPEGImages" / f"{name}.jpg", np.full((2, 3, 3), ord(name)))
    for name in TRAIN + VAL:
        mask = Image.fromarray(MASK)
        mask.putpalette([(11 * value) % 256 for value in range(768)])
        (voc / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(voc / "SegmentationClass" / f"{name}.png")
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(TRAIN) + "\n")
    (lists / "val.txt").write_text("\n".join(VAL) + "\n")
    monkeypatch.setattr(voc2012, "TRAIN_AUG_SHA256", hashlib.sha256("\n".join(AUG).encode()).hexdigest())
    return tmp_path / "data"


def add_sbd(folder: Path) -> None:
    (folder / "cls").mkdir(parents=True)
    for name in {*SBD_TRAIN, *SBD_VAL}:
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": PLAIN}})
    (folder / "train.txt").write_text("\n".join(SBD_TRAIN))
    (folder / "val.txt").write_text("\n".join(SBD_VAL))


def add_png_folder(root: Path, write: Write, names: str = "abcde") -> None:
    for name in names:
        write(root / "VOCdevkit" / "VOC2012" / "SegmentationClassAug" / f"{name}.png", PLAIN)


def test_palette_masks_keep_their_void_border(root: Path) -> None:
    data = Voc2012(root)
    assert data.splits == ("train", "val")
    assert [sample.name for sample in (data.split("train")[0], data.split("train")[1])] == TRAIN
    assert torch.equal(data.split("val")[0].mask, torch.from_numpy(MASK))


@pytest.mark.parametrize("inner", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_any_of_the_three_folders(root: Path, inner: str) -> None:
    assert len(Voc2012(root / inner).split("train")) == 2


@pytest.mark.parametrize("place", ["sbd", "SBD", "benchmark_RELEASE/dataset"])
def test_train_aug_from_sbd(root: Path, place: str) -> None:
    add_sbd(root / place)
    split = Voc2012(root).split("train_aug")
    assert [split[index].name for index in range(len(split))] == AUG
    # Images of VOC train keep VOC's masks with void; the others have SBD's, which have none.
    assert [255 in split[index].mask for index in range(4)] == [True, True, False, False]
    assert torch.equal(split[3].mask, torch.from_numpy(PLAIN))
    assert (split[3].image == ord("e")).all()


def test_train_aug_from_a_png_folder(root: Path, write: Write) -> None:
    add_png_folder(root, write)
    data = Voc2012(root)
    assert data.splits == ("train", "val", "train_aug")
    split = data.split("train_aug")
    assert [split[index].name for index in range(len(split))] == AUG
    assert torch.equal(split[0].mask, torch.from_numpy(PLAIN))


def test_an_incomplete_train_aug_is_an_error(root: Path, write: Write) -> None:
    add_png_folder(root, write, "abcd")
    with pytest.raises(DataError, match=r"gives 3 ids for train_aug, but these are not the official 10,582"):
        Voc2012(root).split("train_aug")


def test_no_source_of_train_aug_says_where_was_looked_and_where_to_get_it(root: Path) -> None:
    with pytest.raises(DataError, match=r"SegmentationClassAug.*sbd.*benchmark_RELEASE.*get SBD"):
        Voc2012(root).split("train_aug")


def test_a_missing_voc_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt: no such list; get VOCtrainval"):
        Voc2012(tmp_path).split("train")
    with pytest.raises(DataError, match="it has train, val and train_aug"):
        Voc2012(tmp_path).split("test")


def test_fingerprint_follows_lists_and_files(root: Path, write: Write) -> None:
    prints = [Voc2012(root).fingerprint()]
    add_png_folder(root, write)
    prints.append(Voc2012(root).fingerprint())
    lists = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("b\na\n")
    prints.append(Voc2012(root).fingerprint())
    assert len(set(prints)) == 3
    assert Voc2012(root).fingerprint() == prints[-1]


def test_the_fingerprint_holds_the_split_of_every_file(root: Path) -> None:
    first = Voc2012(root).fingerprint()
    lists = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\nc\n")
    assert Voc2012(root).fingerprint() != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\na\n", r"train\.txt:3: 'a' stands in line 1 already"),
        ("a b\n", r"train\.txt:1: a line names one image, this one is 'a b'"),
    ],
)
def test_a_bad_list_is_refused(root: Path, text: str, message: str) -> None:
    (root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "train.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        Voc2012(root).split("train")


def test_colours_are_vocs() -> None:
    # The first, the second, person and tvmonitor, as the development kit prints them.
    known = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {label: Voc2012.palette[label] for label in known} == known
    assert len(Voc2012.classes) == 21


@pytest.mark.parametrize("source", ["png", "sbd"])
def test_the_official_lists_give_the_official_ids(real_data: Path, tmp_path: Path, source: str) -> None:
    lists = real_data / "voc2012-2007" / "lists"
    train, val, aug = ((lists / f"{name}.txt").read_text().split() for name in ("train", "val", "train_aug"))
    voc = tmp_path / "VOC2012"
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, ids in (("train", train), ("val", val)):
        (voc / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(ids))
    if source == "png":
        (voc / "SegmentationClassAug").mkdir()
        for each in aug + val:
            (voc / "SegmentationClassAug" / f"{each}.png").touch()
    else:
        (tmp_path / "sbd" / "cls").mkdir(parents=True)
        (tmp_path / "sbd" / "train.txt").write_text("\n".join(aug[::2]))
        (tmp_path / "sbd" / "val.txt").write_text("\n".join(aug[1::2] + val[:700]))
    split = Voc2012(tmp_path).split("train_aug")
    assert len(split) == 10_582
    assert [pair.name for pair in split.pairs] == sorted(aug)


def test_the_real_images_load(real_data: Path) -> None:
    data = Voc2012(real_data / "voc2012-2007")
    assert (len(data.split("train")), len(data.split("val"))) == (311, 321)
    sample = data.split("train")[0]
    assert sample.name == "2007_000032"
    assert sample.image.shape == (3, 281, 500)
    # A plane and people on background, with void borders.
    assert set(sample.mask.unique().tolist()) == {0, 1, 15, 255}
