"""How badly do the worst images fail? Metrics of single images, from the counts of pixels per class.

Source: Wang et al. 2023 (NeurIPS Datasets and Benchmarks), sections 3 and 4, https://arxiv.org/abs/2310.19252; a class
that is not in an image's truth is left out of that image's mean, and its pixels count as errors of the other classes
Departs from it in: datasets of two classes are treated as all others
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def class_image_iou(counts: NDArray[Any]) -> Floats:
    """Return the IoU of every class on every image, (N, C) in [0, 1]; NaN where the class is not in the truth.

    Args:
        counts: (N, 3, C).
    """
    right, predicted, true = np.moveaxis(counts.astype(np.float64), 1, 0)
    union = predicted + true - right
    iou: Floats = np.divide(right, union, out=np.full(union.shape, np.nan), where=true > 0)
    return iou


def image_iou(counts: NDArray[Any]) -> Floats:
    """Return the mean over an image's true classes of their IoU, of every image that is not void, (M,) in [0, 1].

    Args:
        counts: (N, 3, C).
    """
    iou = class_image_iou(counts)
    known = ~np.isnan(iou)
    number = known.sum(1)
    means: Floats = np.where(known, iou, 0.0).sum(1)[number > 0] / number[number > 0]
    return means


def lowest(values: Floats, share: float) -> float:
    """Return the mean of the lowest values; NaN where there are none.

    Args:
        values: (M,).
        share: of the values, in per cent; the number is rounded down, and at least one.
    """
    if not len(values):
        return np.nan
    return float(np.sort(values)[: max(1, int(share / 100 * len(values)))].mean())


def mean_of_classes(iou: Floats, share: float = 100.0) -> float:
    """Return mIoU^C: the mean over classes of the mean IoU over those images that hold the class, in [0, 1].

    Args:
        iou: (N, C) IoU of every class on every image, NaN where the class is not in the truth; see `class_image_iou`.
        share: of the images of each class, in per cent; the worst ones are taken.
    """
    means = [lowest(column[~np.isnan(column)], share) for column in iou.T if not np.isnan(column).all()]
    return float(np.mean(means)) if means else np.nan


def percentile(values: Floats, rank: float) -> float:
    """Return a percentile of the values, interpolated linearly; NaN where there are none.

    Args:
        values: (M,).
        rank: in per cent.
    """
    return float(np.percentile(values, rank)) if len(values) else np.nan


def under(values: Floats, floor: float) -> float:
    """Return the share of values under a floor, in [0, 1]; NaN where there are none."""
    return float((values < floor).mean()) if len(values) else np.nan
