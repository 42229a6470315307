"""Downloads of a board: CSV with one row per result, and JSON with the entries."""

from __future__ import annotations

import json
from collections.abc import Iterable

from segbench.reports.formats.sheet import to_csv
from segbench.reports.leaderboard.boards import Board
from segbench.reports.leaderboard.entries import Entry

COLUMNS = (
    *("board", "rank", "model", "architecture", "defense", "extra_data", "status", "added", "fingerprint"),
    *("attack", "source", "adaptive", "strong", "mean", "std", "low", "high", "runs", "flags", "note"),
)


def as_csv(boards: Iterable[Board]) -> bytes:
    """Return the results of some boards as CSV; a spreadsheet runs none of it as a formula.

    Args:
        boards: the boards.
    """
    rows = []
    for board in boards:
        for standing in board.standings:
            entry = standing.entry
            shared = (
                entry.board,
                standing.rank,
                entry.model.name,
                entry.model.architecture.short,
                entry.model.defense.short,
                entry.model.extra_data,
                entry.status,
                entry.added.isoformat(),
                entry.data.fingerprint,
            )
            for result in entry.results:
                numbers = (result.mean, result.std, result.low, result.high, len(result.runs))
                attack = "clean" if result.attack is None else result.attack.short
                rows.append(
                    (
                        *shared,
                        attack,
                        result.source,
                        result.adaptive,
                        result.strong,
                        *numbers,
                        " ".join(result.flags),
                        result.note,
                    )
                )
    return to_csv(COLUMNS, rows)


def as_json(entries: Iterable[str]) -> str:
    """Return a list of entries as JSON.

    Args:
        entries: each as `one_as_json` returns it.
    """
    listed = ",\n ".join(entry.rstrip("\n").replace("\n", "\n ") for entry in entries)
    return f"[\n {listed}\n]\n" if listed else "[]\n"


def one_as_json(entry: Entry) -> str:
    """Return an entry as JSON.

    Args:
        entry: the entry.
    """
    plain = entry.model_dump(mode="json")
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
