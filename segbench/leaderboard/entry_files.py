"""Entries as files: read with every mistake at once, and written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from segbench.errors import SegbenchError
from segbench.files import write_json
from segbench.leaderboard.checking import mistakes
from segbench.reports.labels import component_key
from segbench.reports.leaderboard.comparable import scoring_of
from segbench.reports.leaderboard.entries import Entry

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
    for path in dict.fromkeys(found for given in paths for found in _files(given)):
        entry, own = _read(path)
        problems += own
        if entry is not None:
            entries[path] = entry
            place = Path(entry.path)
            if path.resolve().parts[-len(place.parts) :] != place.parts:
                problems.append(f"{path}: does not lie where its content belongs; move it to {place}")
    problems += _twice(entries)
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


def _files(path: Path) -> list[Path]:
    """Return the JSON files in a folder; what is no folder, or has none in it, as it is."""
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
    """Say which entries are of one place, or are of one network that goes by two names and would be ranked twice."""
    seen: dict[tuple[object, ...], Path] = {}
    for path, entry in entries.items():
        model, scored = entry.model, scoring_of(entry)._replace(sources=())  # A source may go by two names as well.
        built = (entry.board, scored, component_key(model.architecture), component_key(model.defense))
        keys = [(entry.path,), *((*built, weights.sha256) for weights in model.weights)]
        others = [other for key in keys if (other := seen.setdefault(key, path)) != path]
        if others:
            yield f"{path}: of the same network, data and threat model as {others[0]}; keep one"


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
