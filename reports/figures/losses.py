"""Which classes lose significantly under an attack: a paired bootstrap over images, class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from segbench.reports.records import Record
from segbench.reports.statistics import Counts, Floats, class_iou
from segbench.reports.tables.grid import Cell
from segbench.reports.tables.inference import LEVEL, RESAMPLES, holm

CountsOf = Callable[[str], Counts | None]
"""Digest of an evaluation -> its counts (N, 3, C), or None where the store lacks them."""

FEWEST = 15
"""Images that must hold a class: with fewer, the bootstrap finds differences too often."""
_CHUNK = 250


def losses(clean: Cell, attacked: Cell, counts: CountsOf) -> set[int] | None:
    """Return the classes whose IoU falls significantly from clean to attacked images; None where nothing can be tested.

    Every bootstrap sample holds the same images for both. The IoU of a class is its mean over runs.

    Args:
        clean: the runs of a network on clean images.
        attacked: its runs under an attack.
        counts: digest of an evaluation -> its counts.
    """
    before, after = (_counts(cell.records, counts) for cell in (clean, attacked))
    if before is None or after is None or before.shape[1:] != after.shape[1:]:
        return None
    enough = [index for index in range(before.shape[-1]) if (before[0, :, 2, index] > 0).sum() >= FEWEST]
    if not enough:
        return None
    drops = np.concatenate(list(_drops(before[..., enough], after[..., enough])))
    fell = _mean_iou(before[..., enough].sum(1)) > _mean_iou(after[..., enough].sum(1))
    p = [min(1.0, 2 * (1 + int((own <= 0).sum())) / (len(own) + 1)) for own in drops.T]
    return {index for index, own, down in zip(enough, holm(p), fell, strict=True) if down and own < LEVEL}


def _drops(before: Counts, after: Counts) -> Iterator[Floats]:
    """Yield by how much the IoU of every class falls in bootstrap samples, (samples, C) at a time."""
    rng = np.random.default_rng(0)
    count = before.shape[1]
    for start in range(0, RESAMPLES, _CHUNK):
        size = min(_CHUNK, RESAMPLES - start)
        weights = rng.multinomial(count, np.full(count, 1 / count), size).astype(np.float64)
        totals = (
            np.einsum("sn,rnkc->rskc", weights, side.astype(np.float64), optimize=True) for side in (before, after)
        )
        first, second = (_mean_iou(own) for own in totals)
        yield first - second


def _mean_iou(totals: Floats | Counts) -> Floats:
    """Return the IoU of every class, averaged over runs: (R, ..., 3, C) -> (..., C)."""
    iou: Floats = class_iou(totals, "zero").mean(0)
    return iou


def _counts(runs: tuple[Record, ...], counts: CountsOf) -> Counts | None:
    """Return the counts of all runs, (R, N, 3, C), or None if one run has none."""
    found = [counts(run.digest) for run in runs if run.status == "done"]
    known = [own for own in found if own is not None]
    if not known or len(known) < len(found) or len({own.shape for own in known}) > 1:
        return None
    return np.stack(known)
