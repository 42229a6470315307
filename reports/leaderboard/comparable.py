"""The entries of a board that may be compared, and the differences between the others."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from segbench.reports.leaderboard.entries import Entry


class Scoring(NamedTuple):
    """Properties that entries of one board must share to be compared; the board already fixes the names.

    Attributes:
        fingerprint: hash of the dataset's files; None if it is not known.
        dataset: version of the dataset's component.
        protocol: version of the protocol's component.
        absent: rule for classes in neither truth nor prediction, "skip" or "zero".
        sources: names of the networks that black-box attacks were made on.
    """

    fingerprint: str | None
    dataset: int
    protocol: int
    absent: str
    sources: tuple[str, ...]


def scoring_of(entry: Entry) -> Scoring:
    """Return the properties that decide with which entries of its board an entry may be compared.

    Args:
        entry: the entry.
    """
    data, protocol = entry.data, entry.protocol
    sources = tuple(sorted({result.source for result in entry.attacked if result.source is not None}))
    return Scoring(data.fingerprint, data.dataset.version, protocol.component.version, protocol.absent, sources)


def told_apart(scoring: Scoring, every: Collection[Scoring]) -> str:
    """Return the difference of a group of entries from the other groups of its board, in words; empty if there is none.

    Args:
        scoring: the properties of the group.
        every: the properties of all groups of the board.
    """
    files = "not named" if scoring.fingerprint is None else scoring.fingerprint[:16]
    told = (
        f"files {files}",
        f"dataset version {scoring.dataset}",
        f"protocol version {scoring.protocol}",
        f"absent classes {'left out' if scoring.absent == 'skip' else 'counted as 0'}",
        f"images made on {' and on '.join(scoring.sources) or 'networks not named'}",
    )
    return ", ".join(text for i, text in enumerate(told) if len({other[i] for other in every}) > 1)
