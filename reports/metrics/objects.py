"""Do small objects vanish? Shares of objects that are still there, by their size.

An object is a connected set of pixels of one true class; pixels that touch at a corner are connected. Counts are
(N, 4, 3): for each image, and for small, medium and large objects, the number of objects, the number of those that are
found, their pixels, and those of their pixels that are right. An object is found if at least half of its pixels are
right. Objects are small below 32 x 32 pixels, large from 96 x 96 pixels on, at the size at which an image is scored.

Source: the sizes are those of COCO (Lin et al. 2014, https://arxiv.org/abs/1405.0312, and its evaluation page); that a
label map has no instances, and touching ones count as one object, is a limit of every dataset of label maps
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES = ("small", "medium", "large")
LIMITS = (32 * 32, 96 * 96)
"""Pixels from which an object is medium, and large."""
ROWS = 4
"""Objects, objects that are found, pixels, right pixels."""


def recall(counts: NDArray[Any], size: str) -> float:
    """Return the share of the pixels of objects of a size that are predicted as their class, in [0, 1].

    Args:
        counts: (N, 4, 3).
        size: "small", "medium" or "large".
    """
    _, _, pixels, right = counts[:, :, SIZES.index(size)].sum(0).astype(np.float64)
    return float(right / pixels) if pixels else np.nan


def found(counts: NDArray[Any], size: str) -> float:
    """Return the share of the objects of a size of which at least half is predicted as their class, in [0, 1].

    Args:
        counts: (N, 4, 3).
        size: "small", "medium" or "large".
    """
    objects, some, _, _ = counts[:, :, SIZES.index(size)].sum(0).astype(np.float64)
    return float(some / objects) if objects else np.nan
