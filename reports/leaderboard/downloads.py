"""Downloads of a board: CSV with one row per result, and JSON with the entries."""

from __future__ import annotations

import json
from collections.abc import Iterable

from segbench.reports.formats.frames import to_csv
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
    import pandas as pd

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
    return to_csv(pd.DataFrame(rows, columns=list(COLUMNS)).astype({"rank": "Int64"}))


def as_json(entries: Iterable[Entry]) -> str:
    """Return entries as JSON.

    Args:
        entries: the entries.
    """
    return _json([entry.model_dump(mode="json") for entry in entries])


def one_as_json(entry: Entry) -> str:
    """Return an entry as JSON.

    Args:
        entry: the entry.
    """
    return _json(entry.model_dump(mode="json"))


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
