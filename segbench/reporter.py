"""How a job says how far it is."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """How a job tells how far it is, and hears that it should stop."""

    def update(self, done: int, total: int, note: str) -> None:
        """Report progress; raises `Stopped` once the user asked to stop."""
        ...

    def check(self) -> None:
        """Raise `Stopped` once the user asked to stop; to be called between steps that take a while."""
        ...

    def say(self, text: str) -> None:
        """Tell the user something that is worth a line."""
        ...
