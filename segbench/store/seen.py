"""What one command has read of a store's evaluations: it reads and checks none of their files twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.reports.evidence import Measurements

MOST = 256 << 20
"""Bytes of counts that are kept; what goes beyond them is read again."""
APIECE = 128
"""Bytes that an array takes beside its numbers."""


@dataclass
class Seen:
    """The evaluations that were read, as they were then.

    Attributes:
        files: hashes of an evaluation's files, as its record states them, by its digest.
        counts: its counts as they are stored, of an evaluation that is no ensemble.
        names: the names of its images, which many evaluations share.
        room: bytes of counts that may still be kept.
        measured: the sanity measurements of a network, or None where it has none, by its digest.
    """

    files: dict[str, Mapping[str, str]] = field(default_factory=dict)
    counts: dict[str, NDArray[Any]] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    room: int = MOST
    measured: dict[str, Measurements | None] = field(default_factory=dict)
    _shared: dict[bytes, tuple[str, ...]] = field(default_factory=dict)

    def keep(self, digest: str, files: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep what was read of an evaluation and found whole.

        Args:
            digest: of the evaluation.
            files: hashes of its files.
            arrays: those of its counts.
        """
        self.files[digest] = files
        own, names = arrays["counts"], arrays["names"]
        text = names.tobytes()
        if text not in self._shared:
            self._shared[text] = tuple(map(str, names))
        self.names[digest] = self._shared[text]
        if digest not in self.counts and own.nbytes + APIECE <= self.room and set(arrays) == {"counts", "names"}:
            self.room -= own.nbytes + APIECE
            self.counts[digest] = own

    def counted(self, digest: str) -> NDArray[np.int64] | None:
        """Return the counts of an evaluation, or None where they are not kept."""
        own = self.counts.get(digest)
        return None if own is None else own.astype(np.int64)
