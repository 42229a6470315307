"""What `board.yaml` says about a board, and the mistakes in it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segbench import cli
from segbench.leaderboard import board_files, entry_files
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.reports.leaderboard.about import BoardAbout

ENTRIES = Path(__file__).resolve().parents[3] / "docs" / "leaderboard" / "entries"
BOARDS = ("voc2012-val/sea-v2/white-box-linf-2-255", "voc2012-val/sea-v2/white-box-linf-8-255")


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    for board in BOARDS:
        shutil.copytree(ENTRIES / board, tmp_path / "entries" / board)
        (tmp_path / "entries" / board / "board.yaml").unlink(missing_ok=True)
    return tmp_path / "entries"


def about(entries: Path) -> dict[str, BoardAbout]:
    return board_files.load([entries], entry_files.load([entries]))


def test_what_a_file_does_not_say_is_usual(entries: Path) -> None:
    assert about(entries) == {}
    (entries / BOARDS[0] / "board.yaml").write_text("")
    (entries / BOARDS[1] / "board.yaml").write_text("featured: true\ndata: toy\n")
    assert about(entries) == {BOARDS[0]: BoardAbout(), BOARDS[1]: BoardAbout(featured=True, data="toy")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("featured: yes\n", "old YAML"),
        ("featured: 1\n", "featured: input should be a valid boolean, got 1"),
        ("data: synthetic\n", "data: input should be 'real' or 'toy', got 'synthetic'"),
        ("feature: true\n", "feature: there is no such key; the keys are featured, data"),
        ("- featured\n", "board: "),
        ("data: real\ndata: toy\n", "2: "),
    ],
)
def test_mistakes_are_told_by_check(entries: Path, text: str, said: str) -> None:
    path = entries / BOARDS[0] / "board.yaml"
    path.write_text(text)
    result = CliRunner().invoke(cli.app, ["leaderboard", "check", str(entries)])
    assert result.exit_code != 0
    with pytest.raises(LeaderboardError, match=re.escape(said)):
        about(entries)


def test_a_board_without_entries_is_a_mistake(entries: Path) -> None:
    place = entries / "no" / "such" / "board" / "board.yaml"
    place.parent.mkdir(parents=True)
    place.write_text("featured: true\n")
    with pytest.raises(LeaderboardError, match="no entry is on this board"):
        about(entries)
