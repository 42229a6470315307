from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segbench.datasets.base import Sample
from segbench.datasets.camvid import Camvid
from segbench.datasets.digits import Digits
from segbench.datasets.folder import Folder
from segbench.datasets.kitti import Kitti
from segbench.datasets.tools import hashes
from segbench.datasets.tools.check import check, describe
from segbench.errors import DataError

Write = Callable[..., None]


def test_the_summary_counts_what_is_there(camvid_root: Path, write: Write) -> None:
    write(camvid_root / "val" / "1.png", np.zeros((5, 9, 3)))
    write(camvid_root / "valannot" / "0.png", np.full((6, 8), 11))
    write(camvid_root / "valannot" / "1.png", [[3] * 9] * 4 + [[4] * 8 + [11]])
    summary = check(Camvid(camvid_root, size=None))
    val = summary.splits["val"]
    assert summary.splits["train"].images == 3
    assert (val.images, val.sizes) == (2, ((5, 9), (6, 8)))
    assert val.class_pixels == (0, 0, 0, 36, 8, 0, 0, 0, 0, 0, 0)
    assert val.class_images == (0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0)
    assert val.void_pixels == 49
    assert val.class_shares[3] == pytest.approx(36 / 44)
    assert val.void_share == pytest.approx(49 / 93)


def test_an_image_of_two_splits_is_told(camvid_root: Path, write: Write) -> None:
    """Two splits with the same image: a network that trained on one has seen what the other scores."""
    for split, first in (("train", 0), ("val", 100), ("test", 200)):
        for index in range(len(list((camvid_root / split).glob("*.png")))):
            write(camvid_root / split / f"{index}.png", np.full((6, 8, 3), first + index))
    assert not check(Camvid(camvid_root, size=None)).shared
    write(camvid_root / "val" / "1.png", np.full((6, 8, 3), 2))
    summary = check(Camvid(camvid_root, size=None))
    said = "train and val hold the same images, pixel for pixel: 1 image (2 is 1)"
    assert summary.shared == (said,)
    assert f"warning: {said}" in describe(summary)


def test_splits_that_are_trained_on_may_share_images() -> None:
    class Scenes:
        classes, palette, ignore_index, splits = ("a", "b"), ((0, 0, 0), (1, 1, 1)), 255, ("train", "train_aug", "val")

        def split(self, name: str) -> list[Sample]:
            return [Sample("0", torch.full((3, 4, 4), int(name == "val"), dtype=torch.uint8), torch.zeros(4, 4).byte())]

        def fingerprint(self, *, verify: bool = False) -> str:
            return "0"

    assert not check(Scenes()).shared


def test_a_summary_reads_as_text(camvid_root: Path, write: Write) -> None:
    for index in range(2):
        write(camvid_root / "valannot" / f"{index}.png", [[3] * 6 + [11] * 2] * 6)
    text = describe(check(Camvid(camvid_root, size=None)))
    assert "val: 2 images, 6x8, 25.0 % void" in text
    assert any(line.split() == ["fence", *line.split()[1:4], "0.00", "%", "0"] for line in text.splitlines())
    assert any(line.startswith("road") and line.endswith("100.00 %       2") for line in text.splitlines())


def test_all_problems_come_in_one_error_a_line_each(camvid_root: Path, write: Write) -> None:
    broken = (camvid_root / "train" / "0.png").read_bytes()
    (camvid_root / "train" / "0.png").write_bytes(broken[: len(broken) // 2])
    (camvid_root / "trainannot" / "1.png").unlink()
    write(camvid_root / "trainannot" / "2.png", np.zeros((8, 6)))
    write(camvid_root / "valannot" / "0.png", np.full((6, 8), 12))
    with pytest.raises(DataError) as error:
        check(Camvid(camvid_root))
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    for line, (name, what) in zip(
        lines,
        [
            ("train/0.png", "cannot be read"),
            ("trainannot/1.png", "no such file"),
            ("trainannot/2.png", "mask is 8x6"),
            ("valannot/0.png", "label 12"),
        ],
        strict=True,
    ):
        assert name in line
        assert what in line


def test_a_split_without_list_is_a_problem_like_others(camvid_root: Path) -> None:
    (camvid_root / "val.txt").unlink()
    (camvid_root / "train" / "0.png").unlink()
    data = Camvid(camvid_root)
    with pytest.raises(DataError, match=r"val\.txt"):
        data.fingerprint()
    data.fingerprint = lambda: "unknown"  # type: ignore[method-assign]
    with pytest.raises(DataError) as error:
        check(data)
    assert len(str(error.value).splitlines()) == 2


def test_a_label_between_the_classes_and_void_is_found_in_any_dataset() -> None:
    data = Digits(train=4, val=4, dev=4)
    data.classes = data.classes[:3]
    with pytest.raises(DataError, match="there are 3 classes and 255 for void"):
        check(data)


def test_good_files_are_read_once(camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "summaries"
    first = check(Camvid(camvid_root), cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(Camvid, "split", None)
        assert check(Camvid(camvid_root), cache=cache) == first
    only = check(Camvid(camvid_root), splits=("val",), cache=cache)
    assert tuple(only.splits) == ("val",)
    (camvid_root / "valannot" / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"valannot/0\.png"):
        check(Camvid(camvid_root), cache=cache)


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 300, b"[]", b'{"fingerprint": "0"}'])
def test_a_damaged_summary_is_made_again(camvid_root: Path, tmp_path: Path, damage: bytes) -> None:
    cache = tmp_path / "summaries"
    first = check(Camvid(camvid_root), cache=cache)
    (stored,) = cache.iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(damage)
    assert check(Camvid(camvid_root), cache=cache) == first
    assert stored.read_bytes() == whole


def test_a_summary_of_other_splits_is_not_taken(camvid_root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "summaries"
    check(Camvid(camvid_root), splits=("train",), cache=cache)
    (stored,) = cache.iterdir()
    check(Camvid(camvid_root), splits=("val",), cache=cache)
    (other,) = set(cache.iterdir()) - {stored}
    other.write_bytes(stored.read_bytes())
    assert list(check(Camvid(camvid_root), splits=("val",), cache=cache).splits) == ["val"]


def test_verify_trusts_nothing_that_is_remembered(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "summaries"
    monkeypatch.setattr(hashes, "SETTLED", -1)
    first = check(Camvid(camvid_root), cache=cache)
    path = camvid_root / "valannot" / "0.png"
    monkeypatch.setattr(hashes, "_stamp", lambda stat: "the same")
    check(Camvid(camvid_root), cache=cache)
    path.write_bytes(b"broken")
    assert check(Camvid(camvid_root), cache=cache) == first
    with pytest.raises(DataError, match=r"valannot/0\.png: cannot be read"):
        check(Camvid(camvid_root), cache=cache, verify=True)


def test_many_like_problems_are_folded(tmp_path: Path, write: Write) -> None:
    for index in range(70):
        write(tmp_path / "images" / "val" / f"picture {index}.png", np.zeros((3, 4, 3)))
        write(tmp_path / "masks" / "val" / f"picture {index}.png", np.full((3, 4), 9 if index else 7))
    (tmp_path / "masks" / "val" / "picture 3.png").unlink()
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]\nsplits: [val]\n")
    with pytest.raises(DataError) as error:
        check(Folder(tmp_path))
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    assert [line.endswith("are known") for line in lines] == [True, True, True, False, False]
    assert lines[3] == "... and 66 more lines like the last"
    assert "picture 3.png: no such file" in lines[4]


def test_a_class_without_pixels_is_a_warning_where_void_is(camvid_root: Path, write: Write) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            write(camvid_root / f"{split}annot" / f"{index}.png", [list(range(8))] * 6)
    assert check(Camvid(camvid_root, size=None)).warnings == ()
    write(camvid_root / "valannot" / "1.png", [[0, 1, 2, 3, 4, 5, 6, 11]] * 6)
    summary = check(Camvid(camvid_root, size=None))
    assert summary.warnings == (
        "val: 3 classes (car, pedestrian and 1 more) without one pixel, while 6.2 % of the pixels are void, which no "
        "score counts; is a label taken for void that is a class?",
    )
    assert json.loads(summary.model_dump_json())["warnings"] == list(summary.warnings)
    assert f"warning: {summary.warnings[0]}" in describe(summary).splitlines()


def test_of_many_classes_those_without_a_pixel_are_counted(tmp_path: Path, write: Write) -> None:
    for split, label in (("train", 0), ("val", 7)):
        write(tmp_path / "images" / split / "a.png", np.zeros((3, 4, 3)))
        write(tmp_path / "masks" / split / "a.png", np.full((3, 4), label))
    for count, listed in ((40, 40), (41, 2)):
        (tmp_path / "dataset.yaml").write_text(f"classes: [{', '.join(f'c{number}' for number in range(count))}]\n")
        lines = describe(check(Folder(tmp_path))).splitlines()
        shown = [line.split()[0] for line in lines if line.startswith("c")]
        assert shown == ([f"c{number}" for number in range(40)] if listed == 40 else ["c0", "c7"])
        assert ("39 more classes without a pixel" in lines) == (count > 40)


def test_files_that_are_left_out_are_told_even_by_a_remembered_summary(camvid_root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "summaries"
    before = check(Camvid(camvid_root), cache=cache)
    (camvid_root / "val" / "2.png").write_bytes(b"")
    after = check(Camvid(camvid_root), cache=cache)
    assert after.fingerprint == before.fingerprint
    (new,) = set(after.warnings) - set(before.warnings)
    assert new == f"{camvid_root / 'val'}: 1 file (2.png) left out, hidden, in no split, or of no format that is read"


def test_a_part_of_an_official_split_is_a_warning(kitti_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("official" in text for text in check(Kitti(kitti_root)).warnings)
    monkeypatch.setattr(Kitti, "lengths", {"train": 160, "val": 41})
    assert "val: the official split has 41 images, this one 40" in check(Kitti(kitti_root)).warnings


def test_files_that_are_not_used_are_not_read(camvid_root: Path, write: Write, tmp_path: Path) -> None:
    write(camvid_root / "train" / "2.png", np.zeros((1, 1, 3)))
    with pytest.raises(DataError):
        check(Camvid(camvid_root), splits=["train"])
    found = check(Camvid(camvid_root), splits=["train"], first={"train": 2}, cache=tmp_path)
    assert (found.splits["train"].images, found.splits["train"].left) == (2, 1)
    assert not any("without one pixel" in warning for warning in found.warnings), "other images may have the class"
    with pytest.raises(DataError):
        check(Camvid(camvid_root), splits=["train"], cache=tmp_path)
