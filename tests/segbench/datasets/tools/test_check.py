from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.datasets.camvid import Camvid
from segbench.datasets.digits import Digits
from segbench.datasets.tools.check import check, contact_sheet, describe
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


def test_the_contact_sheet_shows_images_beside_their_colours(camvid_root: Path, tmp_path: Path, write: Write) -> None:
    for index in range(2):
        write(camvid_root / "val" / f"{index}.png", np.full((6, 8, 3), 50))
        write(camvid_root / "valannot" / f"{index}.png", np.full((6, 8), 3))
    path = tmp_path / "sheets" / "sheet.png"
    data = Camvid(camvid_root, size=None)
    contact_sheet(data, path, side=16)
    with Image.open(path) as sheet:
        colours = dict((colour, count) for count, colour in sheet.convert("RGB").getcolors())
        assert colours[50, 50, 50] == 2 * 16 * 12
        # Two masks of road, and its part of the stripe of class colours.
        assert colours[data.palette[3]] > 2 * 16 * 12
        assert set(data.palette) <= set(colours)
