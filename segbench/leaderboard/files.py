"""Entries as files: read with every mistake at once, and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from reports.leaderboard.entries import Entry
from segbench.errors import SegbenchError
from segbench.leaderboard.checking import mistakes
from segbench.store import write_json

LARGEST = 16 << 20
"""Bytes of an entry's file that are read at most."""


class LeaderboardError(SegbenchError):
    """An entry or a bundle is missing, not valid, or cannot be made; the text holds one mistake a line."""


def read(path: Path) -> Entry:
    """Read an entry.

    Args:
        path: its file, wherever it lies.

    Raises:
        LeaderboardError: with every mistake.
    """
    entry, problems = _read(path)
    if entry is None or problems:
        raise LeaderboardError("\n".join(problems))
    return entry


def load(paths: Sequence[Path]) -> list[Entry]:
    """Read entries, each at its place.

    Args:
        paths: files, or folders that are searched for all JSON files in them.

    Raises:
        LeaderboardError: with every mistake of every file.
    """
    entries: dict[Path, Entry] = {}
    problems: list[str] = []
    for path in _files(paths):
        entry, own = _read(path)
        problems += own
        if entry is not None:
            entries[path] = entry
            place = Path(entry.path)
            if path.resolve().parts[-len(place.parts) :] != place.parts:
                problems.append(f"{path}: does not lie where its content belongs; move it to {place}")
    seen: dict[str, Path] = {}
    for path, entry in entries.items():
        if seen.setdefault(entry.path, path) != path:
            problems.append(f"{path}: of the same network, data and threat model as {seen[entry.path]}; keep one")
    if problems:
        raise LeaderboardError("\n".join(problems))
    return list(entries.values())


def write(entry: Entry, path: Path) -> None:
    """Write an entry's file, whole or not at all."""
    write_json(path, entry.model_dump(mode="json"))


def parse(text: str | bytes, where: str) -> tuple[Entry | None, list[str]]:
    """Read an entry from JSON, and say every mistake in it.

    Args:
        text: the JSON.
        where: what the mistakes name.

    Returns:
        The entry, None where it does not have the schema; and the mistakes.
    """
    try:
        json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        return None, [f"{where}: line {error.lineno}, column {error.colno}: not JSON: {error.msg.lower()}"]
    except (ValueError, RecursionError) as error:
        return None, [f"{where}: not JSON: {error}"]
    try:
        entry = Entry.model_validate_json(text, strict=True)
    except ValidationError as error:
        return None, [f"{where}: {_place(detail['loc'])}: {_message(detail)}" for detail in error.errors()]
    return entry, [f"{where}: {mistake}" for mistake in mistakes(entry)]


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise LeaderboardError(f"{path}: no entry is in this folder; `leaderboard add` makes some")
        found += inside
    return list(dict.fromkeys(found))


def _read(path: Path) -> tuple[Entry | None, list[str]]:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            return None, [f"{path}: {size:,} bytes, more than an entry can have ({LARGEST:,})"]
        return parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None, [f"{path}: there is no such file; give an entry's JSON file or a folder of them"]
    except OSError as error:
        return None, [f"{path}: cannot be read ({error.strerror})"]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number; write null where there is none")


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "entry"


def _message(detail: object) -> str:
    if not isinstance(detail, dict):
        return str(detail)
    text = str(detail["msg"])
    said = f"{text[:1].lower()}{text[1:]}"
    value = detail.get("input")
    return said if isinstance(value, dict | list) or detail["type"] == "missing" else f"{said}, got {value!r}"
