"""Reading and writing entry files. A reader reports all mistakes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from segbench.documents.strict_json import parse_json
from segbench.documents.text import DocumentError
from segbench.errors import SegbenchError, shown
from segbench.files import write_json
from segbench.leaderboard.checking import mistakes
from segbench.reports.labels import component_key
from segbench.reports.leaderboard.comparable import scoring_of
from segbench.reports.leaderboard.entries import Entry

LARGEST = 16 << 20
"""Largest size of an entry's file, in bytes."""
MOST_MISTAKES = 100
"""Fields that do not follow the schema are told up to this number."""


class LeaderboardError(SegbenchError):
    """An entry or a bundle is missing, not valid or cannot be made. The message has one mistake per line."""


def read(path: Path) -> Entry:
    """Read an entry.

    Args:
        path: its file, in any folder.

    Raises:
        LeaderboardError: with every mistake.
    """
    entry, problems = _read(path)
    if entry is None or problems:
        raise LeaderboardError("\n".join(problems))
    return entry


def load(paths: Sequence[Path]) -> list[Entry]:
    """Read entries and check that each file has the right path.

    Args:
        paths: files, or folders whose JSON files are all read.

    Raises:
        LeaderboardError: with every mistake of every file.
    """
    entries: dict[Path, Entry] = {}
    problems: list[str] = []
    for path in dict.fromkeys(found for given in paths for found in _files(given)):
        entry, own = _read(path)
        problems += own
        if entry is not None:
            entries[path] = entry
            place = Path(entry.path)
            if path.resolve().parts[-len(place.parts) :] != place.parts:
                problems.append(f"{path}: its path does not match its content; move the file to {place}")
    problems += _twice(entries)
    if problems:
        raise LeaderboardError("\n".join(problems))
    return list(entries.values())


def write(entry: Entry, path: Path) -> None:
    """Write an entry's file; a crash never leaves half a file."""
    write_json(path, entry.model_dump(mode="json"))


def parse(text: str | bytes, where: str) -> tuple[Entry | None, list[str]]:
    """Read an entry from JSON, and list its mistakes.

    Args:
        text: the JSON.
        where: name of the file, which every mistake begins with.

    Returns:
        The entry, or None if it does not follow the schema; and the mistakes.
    """
    try:
        parse_json(text, where, LARGEST)
    except DocumentError as error:
        return None, [str(error)]
    try:
        entry = Entry.model_validate_json(text, strict=True)
    except ValidationError as error:
        details = error.errors()
        told = [f"{where}: {_place(detail['loc'])}: {_message(detail)}" for detail in details[:MOST_MISTAKES]]
        more = len(details) - len(told)
        return None, told + ([f"{where}: {more:,} more mistakes of this kind"] if more else [])
    return entry, [f"{where}: {mistake}" for mistake in mistakes(entry)]


def _files(path: Path) -> list[Path]:
    """Return the JSON files in a folder; a file, or a folder without JSON files, is returned itself."""
    return (sorted(path.rglob("*.json")) or [path]) if path.is_dir() else [path]


def _read(path: Path) -> tuple[Entry | None, list[str]]:
    if path.is_dir():
        return None, [f"{path}: no entry is in this folder; `leaderboard add` makes some"]
    try:
        size = path.stat().st_size
        if size > LARGEST:
            return None, [f"{path}: {size:,} bytes, more than an entry can have ({LARGEST:,})"]
        return parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None, [f"{path}: there is no such file; give an entry's JSON file or a folder of them"]
    except OSError as error:
        return None, [f"{path}: cannot be read ({error.strerror})"]


def _twice(entries: Mapping[Path, Entry]) -> Iterator[str]:
    """Yield the entries that have the same path, or hold the same network under two names and would rank twice."""
    seen: dict[tuple[object, ...], Path] = {}
    for path, entry in entries.items():
        model, scored = entry.model, scoring_of(entry)._replace(sources=())  # A source may have two names as well.
        built = (entry.board, scored, component_key(model.architecture), component_key(model.defense))
        keys = [(entry.path,), *((*built, weights.sha256) for weights in model.weights)]
        others = [other for key in keys if (other := seen.setdefault(key, path)) != path]
        if others:
            yield f"{path}: of the same network, data and threat model as {others[0]}; keep one"


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "entry"


def _message(detail: object) -> str:
    if not isinstance(detail, dict):
        return str(detail)
    text = str(detail["msg"])
    said = f"{text[:1].lower()}{text[1:]}"
    value = detail.get("input")
    return said if isinstance(value, dict | list) or detail["type"] == "missing" else f"{said}, got {shown(value)}"
