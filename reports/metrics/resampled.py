"""How far another choice of images moves a metric: its values in bootstrap samples of the images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segbench.reports.metrics.metric import Floats, Metric
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.statistics import draws

RESAMPLES = 400
"""Bootstrap samples of a metric: fewer than of mIoU, whose samples are computed all at once."""


def resampled(own: Metric, tallied: Tallied, resamples: int = RESAMPLES) -> Floats:
    """Return the value of a metric in every bootstrap sample of the images, (S,); NaN where a sample has none.

    Two calls with as many images draw alike. Images that are void are not drawn where a metric is one of single images.

    Args:
        own: the metric, whose family was tallied.
        tallied: the counts of an evaluation.
        resamples: number of bootstrap samples.
    """
    if own.images is not None and own.of_images is not None:
        values = own.images(tallied)
        if not len(values):
            return np.array([])
        numbers = np.arange(len(values))
        found = [
            own.of_images(values[np.repeat(numbers, times.astype(np.int64))])
            for weights in draws(len(values), resamples)
            for times in weights
        ]
        return np.array(found)
    return np.concatenate([_of_sums(own, tallied, weights) for weights in draws(len(tallied.counts), resamples)])


def _of_sums(own: Metric, tallied: Tallied, weights: Floats) -> Floats:
    """Return a metric that needs only sums over images, in samples that draw each image so many times, (S,)."""
    counts = _summed(tallied.counts, weights).astype(np.int64)
    tallies = {family: _summed(array, weights) for family, array in tallied.tallies.items() if family == own.family}
    found = [
        own.of(Tallied(counts[sample], tallied.absent, {family: array[sample] for family, array in tallies.items()}))
        for sample in range(len(weights))
    ]
    return np.array(found)


def _summed(array: NDArray[np.generic], weights: Floats) -> NDArray[np.float64]:
    """Return the sums of counts over the images of each sample, (S, 1, ...)."""
    sums: NDArray[np.float64] = weights @ array.reshape(len(array), -1).astype(np.float64)
    return sums.reshape(len(weights), 1, *array.shape[1:])
