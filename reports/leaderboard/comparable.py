"""Which numbers of a board may be compared, and what sets others apart."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from segbench.reports.leaderboard.entries import Entry


class Scoring(NamedTuple):
    """What numbers of one board must share to be compared.

    Attributes:
        fingerprint: hash of the files, None where it is not known.
        dataset: version of the dataset's component.
        protocol: version of the protocol's component.
        absent: what a class counts that is neither in truth nor prediction.
        sources: networks that a black-box attack was made on.
    """

    fingerprint: str | None
    dataset: int
    protocol: int
    absent: str
    sources: tuple[str, ...]


def scoring_of(entry: Entry) -> Scoring:
    """Return what numbers must share to be compared, beyond the names that their board shares.

    Args:
        entry: the entry.
    """
    data, protocol = entry.data, entry.protocol
    sources = tuple(sorted({result.source for result in entry.attacked if result.source is not None}))
    return Scoring(data.fingerprint, data.dataset.version, protocol.component.version, protocol.absent, sources)


def told_apart(scoring: Scoring, every: Collection[Scoring]) -> str:
    """Say what tells entries from the others of their board; empty where nothing does.

    Args:
        scoring: what they share.
        every: what each group of the board shares.
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
