"""Reading the files `board.yaml`, which say what is special about a board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from segbench.documents.strict_yaml import read_yaml
from segbench.documents.text import DocumentError
from segbench.errors import shown
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.reports.leaderboard.about import BOARD_FILE, BoardAbout
from segbench.reports.leaderboard.entries import Entry


def load(paths: Sequence[Path], entries: Iterable[Entry]) -> dict[str, BoardAbout]:
    """Return what is said about boards, by the path of each.

    Args:
        paths: folders of entries, which are searched; files of entries are passed over.
        entries: the entries of these folders.

    Raises:
        LeaderboardError: with every mistake of every file.
    """
    boards = {entry.board for entry in entries}
    found: dict[str, BoardAbout] = {}
    problems: list[str] = []
    for path in sorted({file for folder in paths if folder.is_dir() for file in folder.rglob(BOARD_FILE)}):
        place = "/".join(path.resolve().parts[-4:-1])
        if place not in boards:
            problems.append(f"{path}: no entry is on this board; it belongs into the folder of a board with entries")
            continue
        try:
            found[place] = _read(path)
        except (DocumentError, OSError) as error:
            problems.append(str(error))
        except ValidationError as error:
            problems += [f"{path}: {'.'.join(map(str, d['loc'])) or 'board'}: {_what(d)}" for d in error.errors()]
    if problems:
        raise LeaderboardError("\n".join(problems))
    return found


def _read(path: Path) -> BoardAbout:
    content = read_yaml(path).checked().data
    return BoardAbout.model_validate({} if content is None else content, strict=True)


def _what(detail: object) -> str:
    if not isinstance(detail, dict):
        return str(detail)
    if detail["type"] == "extra_forbidden":
        return f"there is no such key; the keys are {', '.join(BoardAbout.model_fields)}"
    text = str(detail["msg"])
    return f"{text[:1].lower()}{text[1:]}, got {shown(detail.get('input'))}"
