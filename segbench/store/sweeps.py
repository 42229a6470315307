"""Unfinished sweeps in a store: what was found so far, and who works on it."""

from __future__ import annotations

import re
from pathlib import Path

from filelock import FileLock

from segbench.store.base import lock
from segbench.store.trainings import Trainings


class Sweeps(Trainings):
    """The unfinished sweeps of a store."""

    def sweep_lock(self, key: str, shard: tuple[int, int] | None = None) -> FileLock:
        """Return the lock of a sweep, or of one of its shards: one process at a time works on it."""
        return lock(self._sweep_dir(key), "" if shard is None else f"-{shard[0]}-{shard[1]}")

    def unfinished_from(self, key: str) -> list[int]:
        """Return the images from which on something is kept of an unfinished sweep: 0, and those of shards."""
        names = (re.fullmatch(r"partial(?:-(\d+))?\.npz", path.name) for path in self._sweep_dir(key).glob("*.npz"))
        return sorted(int(name[1] or 0) for name in names if name)

    def unfinished_path(self, key: str, first: int = 0) -> Path:
        """Return the file of what is kept of an unfinished sweep from an image on."""
        return self._sweep_dir(key) / (f"partial-{first}.npz" if first else "partial.npz")

    def unfinished(self, key: str, first: int = 0) -> bytes | None:
        """Return what is kept of an unfinished sweep, from an image on, or None.

        Raises:
            StoreError: it is damaged.
        """
        return self._read_bytes(self.unfinished_path(key, first))

    def write_unfinished(self, key: str, content: bytes, first: int = 0) -> None:
        """Keep what an unfinished sweep has found so far, from an image on."""
        self._write_bytes(self.unfinished_path(key, first), content)

    def drop_unfinished(self, key: str) -> None:
        """Remove what was kept of a sweep."""
        for first in self.unfinished_from(key):
            self.unfinished_path(key, first).unlink(missing_ok=True)

    def _sweep_dir(self, key: str) -> Path:
        return self.cache_dir / "sweeps" / key
