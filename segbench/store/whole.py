"""Which records were found whole: a run reads none of them again until one of its files changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from segbench.errors import StoreError
from segbench.store.evaluations import COUNTS
from segbench.store.store import Store

SETTLED = 2.0
"""Seconds after its last change from which on a file's times tell it from what is written later."""


class Whole:
    """What earlier runs found whole, by the size, the times and the number of every file.

    Args:
        store: the store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = os.fspath(store.root / "eval")
        try:
            content = store.found_whole()
            self.known: dict[str, Any] = {} if content is None else json.loads(content)
        except (StoreError, ValueError):
            self.known = {}
        self.weights_now = cache(store.weights_now)
        self.changed = False

    def look(self, digest: str) -> tuple[bool, str | None]:
        """Return whether an evaluation is done, and why the record that it has is not to be used."""
        found = self.known.get(digest)
        if found is not None and self._same(digest, *found):
            return True, None
        if self.known.pop(digest, None) is not None:
            self.changed = True
        if not self.store.evaluated(digest):
            return False, None
        reason, files, weights = self.store.examined(digest, self.weights_now)
        if reason is None:
            self._remember(digest, files, weights)
        return reason is None, reason

    def keep(self) -> None:
        """Write down what was found."""
        if self.changed:
            self.store.write_found_whole(json.dumps(self.known).encode())

    def _same(self, digest: str, stamps: dict[str, list[int]], weights: dict[str, str]) -> bool:
        """Whether the files of a record are as they were, and its networks have the weights that it was made with."""
        try:
            files = all(_stamp(f"{self.folder}/{digest}/{name}") == stamp for name, stamp in stamps.items())
            return files and all(self.weights_now(network) in (None, own) for network, own in weights.items())
        except (OSError, StoreError):
            return False

    def _remember(self, digest: str, files: Iterable[str], weights: Mapping[str, str]) -> None:
        stamps = {name: _stamp(f"{self.folder}/{digest}/{name}") for name in files}
        # A record of segbench 0.1 does not name its files.
        if COUNTS in stamps and all(stamp[2] < (time.time() - SETTLED) * 1e9 for stamp in stamps.values()):
            self.known[digest] = stamps, weights
            self.changed = True


def _stamp(path: str) -> list[int]:
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
