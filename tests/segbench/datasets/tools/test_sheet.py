from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.datasets.camvid import Camvid
from segbench.datasets.folder import Folder
from segbench.datasets.tools.sheet import contact_sheet
from segbench.errors import DataError

Write = Callable[..., None]


def test_the_contact_sheet_shows_images_beside_their_colours(camvid_root: Path, tmp_path: Path, write: Write) -> None:
    for index in range(2):
        write(camvid_root / "val" / f"{index}.png", np.full((6, 8, 3), (50, 90, 70)))
        write(camvid_root / "valannot" / f"{index}.png", np.full((6, 8), 3))
    path = tmp_path / "sheets" / "sheet.png"
    data = Camvid(camvid_root, size=None)
    contact_sheet(data, path, side=16)
    with Image.open(path) as sheet:
        colours = dict((colour, count) for count, colour in sheet.convert("RGB").getcolors())
        assert colours[50, 90, 70] == 2 * 16 * 12
        # Two masks of road, and its square in the legend.
        assert colours[data.palette[3]] > 2 * 16 * 12
        assert set(data.palette) <= set(colours)


def legend(folder: Path, classes: str, write: Write) -> tuple[Image.Image, int]:
    """Return the sheet of one grey image, and where its legend begins."""
    write(folder / "images" / "fit" / "a.png", np.full((60, 120, 3), 50))
    write(folder / "masks" / "fit" / "a.png", np.zeros((60, 120)))
    (folder / "dataset.yaml").write_text(f"classes: {classes}\nsplits: [fit]\n")
    contact_sheet(Folder(folder), folder / "sheet.png")
    with Image.open(folder / "sheet.png") as sheet:
        return sheet.convert("RGB"), 120 + 8


def test_the_legend_names_the_classes(tmp_path: Path, write: Write) -> None:
    first, top = legend(tmp_path / "1", "[road, car]", write)
    second, _ = legend(tmp_path / "2", "[road, bus]", write)
    third, _ = legend(tmp_path / "3", "[road, car, 'Straße 道']", write)
    assert first.size[0] == second.size[0]
    picture = (0, 0, first.size[0], top)
    assert first.crop(picture).tobytes() == second.crop(picture).tobytes()
    below = (0, top, *first.size)
    assert first.crop(below).tobytes() != second.crop(below).tobytes()
    assert third.size[0] >= first.size[0]


def test_many_classes_take_more_rows(tmp_path: Path, write: Write) -> None:
    few, _ = legend(tmp_path / "1", "[a, b]", write)
    many, _ = legend(tmp_path / "2", str([f"class number {index}" for index in range(60)]), write)
    assert many.size[0] == few.size[0]
    assert many.size[1] > few.size[1] + 100


def test_a_sheet_that_cannot_be_written_is_an_error(camvid_root: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt/sheet\.png: cannot be written"):
        contact_sheet(Camvid(camvid_root), camvid_root / "train.txt" / "sheet.png")
