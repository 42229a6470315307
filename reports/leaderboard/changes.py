"""The changelog of a leaderboard, made only from the dates in its entries."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from segbench.reports.leaderboard.boards import Board, Standing


@dataclass(frozen=True)
class Change:
    """One change: an entry was added or verified.

    Attributes:
        date: date of the change.
        kind: "added" or "verified".
        board: the board of the entry.
        standing: the present place of the entry on its board.
    """

    date: datetime.date
    kind: str
    board: Board
    standing: Standing

    @property
    def text(self) -> str:
        """The change in one sentence."""
        entry, where = self.standing.entry, self.board.title
        if self.kind == "verified" and entry.verification is not None:
            found = entry.verification
            return (
                f"{entry.model.name} on {where}: a sample of {found.images} images was predicted again, and at most "
                f"{100 * found.disagreement:.2g} % of an image's pixels came out otherwise."
            )
        rank = f"Rank {self.standing.rank} now" if self.standing.rank else "Not ranked"
        worst = "" if entry.worst is None else f", {entry.worst.mean:.1f} mIoU in the worst case"
        return f"{entry.model.name} on {where}, {entry.status}. {rank}{worst}."

    @property
    def urn(self) -> str:
        """An identifier that is the same in every build of the site."""
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self.kind} {self.date} {self.standing.entry.path}").urn


def changes(boards: Iterable[Board]) -> list[Change]:
    """Return all changes, the latest first.

    Args:
        boards: all boards.
    """
    found = []
    for board in boards:
        for standing in board.standings:
            entry = standing.entry
            found.append(Change(entry.added, "added", board, standing))
            if entry.verification is not None:
                found.append(Change(entry.verification.date, "verified", board, standing))
    return sorted(found, key=lambda change: (-change.date.toordinal(), change.standing.entry.path, change.kind))
