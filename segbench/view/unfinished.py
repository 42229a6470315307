"""The mIoU of evaluations that are under way, from what their unfinished sweep has stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from segbench.reports.statistics import mean_iou
from segbench.store.npz import unpacked


def live_miou(content: bytes | None, absent: Mapping[str, Literal["skip", "zero"]]) -> dict[str, float]:
    """Return the mIoU so far by evaluation, in per cent; that of the worst part where an attack has several.

    Args:
        content: what is stored of a sweep; None where nothing is.
        absent: for every evaluation the rule for classes in neither truth nor prediction.

    Raises:
        StoreError: the content cannot be read.
    """
    if content is None:
        return {}
    found: dict[str, float] = {}
    for name, counts in unpacked(content, Path("partial.npz")).items():
        kind, _, rest = name.partition("/")
        digest = rest.partition("/")[0]
        if kind == "counts" and digest in absent and counts.ndim == 3 and len(counts):
            value = 100 * float(mean_iou(np.sum(counts, axis=0), absent[digest]))
            found[digest] = min(value, found.get(digest, value))
    return found
