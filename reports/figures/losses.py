"""Which classes lose significantly under an attack: a paired bootstrap over images, class by class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segbench.reports.records import Record
from segbench.reports.statistics import Counts, paired_bootstrap
from segbench.reports.tables.grid import Cell
from segbench.reports.tables.inference import LEVEL, holm

CountsOf = Callable[[str], Counts | None]
"""Digest of an evaluation -> its counts (N, 3, C), or None where the store lacks them."""


def losses(clean: Cell, attacked: Cell, counts: CountsOf) -> set[int] | None:
    """Return the classes whose IoU falls significantly from clean to attacked images; None where counts are gone.

    Args:
        clean: the runs of a network on clean images.
        attacked: its runs under an attack.
        counts: digest of an evaluation -> its counts.
    """
    pairs = [_counts(cell.records, counts) for cell in (clean, attacked)]
    before, after = pairs
    if before is None or after is None or before.shape != after.shape:
        return None
    present = [index for index in range(before.shape[-1]) if before[:, :, 2, index].any()]
    tests = [paired_bootstrap(after[..., [index]], before[..., [index]], "skip") for index in present]
    corrected = holm([test.p for test in tests])
    return {index for index, test, p in zip(present, tests, corrected, strict=True) if p < LEVEL and test.value < 0}


def _counts(runs: tuple[Record, ...], counts: CountsOf) -> Counts | None:
    """Return the counts of all runs, (R, N, 3, C), or None if one run has none."""
    found = [counts(run.digest) for run in runs if run.status == "done"]
    known = [own for own in found if own is not None]
    if not known or len(known) < len(found) or len({own.shape for own in known}) > 1:
        return None
    return np.stack(known)
