"""Which records were found whole: a run reads none of them again until one of its files changes."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from segbench.errors import StoreError
from segbench.reports.reader import Reader
from segbench.store.evaluations import COUNTS
from segbench.store.store import Store

SETTLED = 2.0
"""Seconds after its last change from which on a file's times tell it from what is written later."""
FEW = 100
"""Evaluations that are read again without a wait that one would notice."""
SHARE = 0.05
"""Share of the evaluations by which a run goes on before it writes all of them down again."""


class Whole:
    """What was found whole, by the size, the times and the number of every file.

    A run writes it down while it goes on, so that of a run that was killed little is left to read.

    Args:
        store: the store.

    Attributes:
        known: the evaluations that were found whole, by digest.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = os.fspath(store.root / "eval")
        self.known = self._written()
        self.changed: set[str] = set()
        self.ended: deque[tuple[float, str]] = deque()
        self.forget_weights()
        self._read = Reader()

    def look(self, digest: str) -> tuple[bool, str | None]:
        """Return whether an evaluation is done, and why the record that it has is not to be used."""
        found = self.known.get(digest)
        if found is not None and self._same(digest, *found):
            return True, None
        if self.known.pop(digest, None) is not None:
            self.changed.add(digest)
        if not self.store.evaluated(digest):
            return False, None
        reason, files, weights = self.store.examined(digest, self.weights_now, self._read)
        if reason is None:
            self._remember(digest, files, weights)
        return reason is None, reason

    def forget_weights(self) -> None:
        """Read which weights networks have again: one of them may have been trained since."""
        self.weights_now = cache(self.store.weights_now)

    def follow(self, digests: Iterable[str]) -> None:
        """Look at evaluations that have ended, as soon as their files can be told from later ones."""
        self.ended.extend((time.monotonic(), digest) for digest in digests)

    def catch_up(self) -> None:
        """Look at those of `follow` whose time has come, and write down what was found once that is worth it."""
        while self.ended and self.ended[0][0] < time.monotonic() - SETTLED:
            self.look(self.ended.popleft()[1])
        if len(self.changed) > max(FEW, len(self.known) * SHARE):
            self.keep()

    def keep(self) -> None:
        """Write down what was found, beside what other processes have written down since."""
        if self.changed:
            for digest, found in self._written().items():
                if digest not in self.changed:
                    self.known.setdefault(digest, found)
            with contextlib.suppress(StoreError):  # of a full disk others say more
                self.store.write_found_whole(json.dumps(self.known).encode())
            self.changed.clear()

    def _written(self) -> dict[str, Any]:
        try:
            written: dict[str, Any] = json.loads(self.store.found_whole() or b"{}")
        except (StoreError, ValueError):
            return {}
        return written

    def _same(self, digest: str, stamps: dict[str, list[int]], weights: dict[str, str]) -> bool:
        """Whether the files of a record are as they were, and its networks have the weights that it was made with."""
        try:
            files = all(_stamp(f"{self.folder}/{digest}/{name}") == stamp for name, stamp in stamps.items())
            return files and all(self.weights_now(network) in (None, own) for network, own in weights.items())
        except (OSError, StoreError):
            return False

    def _remember(self, digest: str, files: Iterable[str], weights: Mapping[str, str]) -> None:
        try:
            stamps = {name: _stamp(f"{self.folder}/{digest}/{name}") for name in files}
        except OSError:  # another process is making it again
            return
        # A record of segbench 0.1 does not name its files.
        if COUNTS in stamps and all(stamp[2] < (time.time() - SETTLED) * 1e9 for stamp in stamps.values()):
            self.known[digest] = stamps, weights
            self.changed.add(digest)


def _stamp(path: str) -> list[int]:
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
