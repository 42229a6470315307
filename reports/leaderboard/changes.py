"""What happened to a leaderboard, by the dates in its entries: the same entries tell the same story."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from segbench.reports.leaderboard.boards import Board, Standing


@dataclass(frozen=True)
class Change:
    """An entry was added or verified.

    Attributes:
        date: when.
        kind: "added" or "verified".
        board: its board.
        standing: the entry, as it stands now.
    """

    date: datetime.date
    kind: str
    board: Board
    standing: Standing

    @property
    def text(self) -> str:
        """What happened, as a sentence."""
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
        """A name for it that stays the same from build to build."""
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self.kind} {self.date} {self.standing.entry.path}").urn


def changes(boards: Iterable[Board]) -> list[Change]:
    """Return what happened, the latest first.

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
