"""Do two numbers of the same networks go together? Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

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
    a, b = rankdata(first), rankdata(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else None
