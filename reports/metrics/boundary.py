"""Do outlines and thin things survive? IoU near the boundaries of classes, and agreement of their outlines.

Counts are (N, 19, C), for each image and class:

- rows 0 to 2: intersection, predicted and true pixels of the inner bands of Boundary IoU;
- rows 3 to 14: right, predicted and true pixels near true boundaries, within 1, 3, 5 and 10 pixels (three rows each);
- rows 15 to 18: pixels of the true outline, those of them near the predicted outline of the class, pixels of the
  predicted outline, and those of them near the true one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.reports.statistics import class_iou

Floats = NDArray[np.float64]

WIDTHS = (1, 3, 5, 10)
"""Widths of the trimaps, in pixels."""
DIAGONAL = 0.02
"""Width of Boundary IoU's band, as a share of the image's diagonal."""
TOLERANCE = 3
"""Pixels that outlines may lie apart and still agree, in the normalised surface distance."""
ROWS = 3 + 3 * len(WIDTHS) + 4


def boundary_class_iou(counts: NDArray[Any]) -> Floats:
    """Return the Boundary IoU of every class, (C,) in [0, 1]; NaN for a class in neither truth nor prediction.

    Args:
        counts: (N, 19, C).

    Source: Cheng et al. 2021, equation 1, https://arxiv.org/abs/2103.16562
    Departs from it in: bands are summed over images before the division, as mIoU sums pixels.
    """
    return class_iou(counts[:, :3].sum(0), "skip")


def trimap(counts: NDArray[Any], width: int) -> NDArray[Any]:
    """Return right, predicted and true pixels near true boundaries, (N, 3, C).

    Args:
        counts: (N, 19, C).
        width: 1, 3, 5 or 10 pixels.

    Raises:
        ValueError: it is another width.
    """
    if width not in WIDTHS:
        raise ValueError(f"trimaps are {', '.join(map(str, WIDTHS))} pixels wide, got {width}")
    first = 3 + 3 * WIDTHS.index(width)
    return counts[:, first : first + 3]


def trimap_class_iou(counts: NDArray[Any], width: int) -> Floats:
    """Return the IoU of every class within some pixels of true boundaries, (C,) in [0, 1]; NaN where a class has none.

    Args:
        counts: (N, 19, C).
        width: 1, 3, 5 or 10 pixels.

    Source: Kohli et al. 2009, section 5, https://doi.org/10.1007/s11263-008-0202-0; Chen et al. 2018, section 4.3,
        https://arxiv.org/abs/1606.00915
    """
    return class_iou(trimap(counts, width).sum(0), "skip")


def surface_agreement(counts: NDArray[Any]) -> Floats:
    """Return the normalised surface distance of every class, (C,) in [0, 1]; NaN for a class without an outline.

    It is the share of the true and the predicted outline that lies within 3 pixels of the other one.

    Args:
        counts: (N, 19, C).

    Source: Nikolov et al. 2018, section "Performance metric", https://arxiv.org/abs/1809.04430
    Departs from it in: an outline is a set of pixels, all of the same length, and is summed over images.
    """
    true, true_near, predicted, predicted_near = counts[:, -4:].sum(0).astype(np.float64)
    length = true + predicted
    share: Floats = np.divide(true_near + predicted_near, length, out=np.full(length.shape, np.nan), where=length > 0)
    return share


def class_mean(values: Floats) -> float:
    """Return the mean over the classes that have a value; NaN where none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
