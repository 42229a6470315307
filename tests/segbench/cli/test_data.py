from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segbench.cli import app


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose masks hold 0 and 255, with a note beside the images."""
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    for kind in ("images", "masks"):
        (folder / kind / "val").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "images" / "val" / "a.png")
    Image.fromarray(np.array([[0, 255, 0, 255]] * 4, np.uint8)).save(folder / "masks" / "val" / "a.png")
    (folder / "images" / "val" / "notes.txt").write_text("blurred")
    (folder / "dataset.yaml").write_text("classes: [road, car]\nsplits: [val]\n")
    return folder


def test_check_prints_warnings_whole(root: Path) -> None:
    result = CliRunner().invoke(app, ["data", "check", "folder", "--data", f"folder={root}", "--verify"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    told = "left out, hidden, in no split, or of no format that is read"
    assert f"warning: {root / 'images'}: 1 file (val/notes.txt) {told}" in lines
    assert "warning: val: 1 class (car) without one pixel, while 50.0 % of the pixels are void" in result.output


def test_check_writes_a_sheet_of_the_split_there_is(root: Path) -> None:
    (root / "dataset.yaml").write_text("classes: [road, car]\nlabels: {0: road, 255: car}\nsplits: [val]\n")
    sheet = root / "sheet.png"
    result = CliRunner().invoke(app, ["data", "check", "folder", "--data", f"folder={root}", "--sheet", str(sheet)])
    assert result.exit_code == 0
    assert "50.00 %" in result.output
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
