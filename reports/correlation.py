"""Do two numbers of the same networks go together? Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST = 3
"""Networks that a correlation needs: with two it is 1 or -1 whatever they are."""


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, from -1 to 1; equal values share the mean of their ranks.

    Args:
        first: a value of each network.
        second: another value of each, in the same order.

    Returns:
        The correlation; None with fewer than three networks, or where all values of one kind are equal.

    Source: Spearman 1904, The proof and measurement of association between two things.
    """
    if len(first) < FEWEST:
        return None
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else None


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return ranks from 1 on; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks
