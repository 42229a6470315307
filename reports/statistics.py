"""mIoU from confusion counts, with bootstrap intervals over images.

`counts` are int64: (N, 3, C) for N images of one run, or (R, N, 3, C) for R runs (seeds) over the same images. Axis -2
holds three counts of pixels per class: intersection, predicted and true. Void pixels are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.reports.records import Scores

Absent = Literal["skip", "zero"]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Places = NDArray[np.intp] | slice

RESAMPLES = 1000
"""Default number of bootstrap samples."""
FEWEST_OF_CLASS = 15
"""Images that a class must be in for a bootstrap interval of mIoU to cover the value of the images' source.

By simulation with twenty classes, each in 7 % of the images: the interval of 95 % covers in 73 % of cases where a class
is in 2 images on average, 82 % at 4, 88 % at 7, 92 % at 11 and 95 % at 14.
"""
MOST_NAMED = 5
"""Number of classes that a sentence names."""
_SEED = 0
_CHUNK = 100
_FEW = 8
"""Images of which many bootstrap samples are the same."""
_MOST_KEPT = 1 << 21
"""Numbers of a drawing that is kept: 16 MiB."""


class Interval(NamedTuple):
    """A value and its 95 % interval, in per cent."""

    value: float
    low: float
    high: float


def class_iou(totals: NDArray[np.generic], absent: Absent) -> Floats:
    """Return the IoU of every class, in [0, 1].

    Args:
        totals: (..., 3, C) counts, already summed over images.
        absent: the IoU of a class in neither truth nor prediction: NaN for "skip", 0 for "zero".
    """
    exact = totals.astype(np.float64)
    intersection, predicted, true = exact[..., 0, :], exact[..., 1, :], exact[..., 2, :]
    union = predicted + true - intersection
    missing = np.nan if absent == "skip" else 0.0
    iou: Floats = np.divide(intersection, union, out=np.full(union.shape, missing), where=union > 0)
    return iou


def mean_iou(totals: NDArray[np.generic], absent: Absent) -> Floats:
    """Return the mean IoU over classes, in [0, 1]; NaN where no class counts.

    Args:
        totals: (..., 3, C) counts, already summed over images.
        absent: a class in neither truth nor prediction is left out ("skip") or counts 0 ("zero").
    """
    iou = class_iou(totals, absent)
    present = ~np.isnan(iou)
    number = present.sum(-1)
    total = np.where(present, iou, 0.0).sum(-1)
    mean: Floats = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
    return mean


def scores(counts: Counts, absent: Absent) -> Scores:
    """Score all images together, in per cent, with a 95 % bootstrap interval of mIoU over images.

    Args:
        counts: (N, 3, C) int64.
        absent: a class in neither truth nor prediction is left out of the means ("skip") or counts 0 ("zero"). The mean
            accuracy treats a class without true pixels in the same way.

    Raises:
        ValueError: all pixels are void.
    """
    totals = counts.sum(0)
    intersection, _, true = totals.astype(np.float64)
    if not true.any():
        raise ValueError("all pixels of all images are void: there is nothing to score")
    accuracy = np.divide(intersection, true, out=np.zeros_like(true), where=true > 0)
    macc = accuracy[true > 0].mean() if absent == "skip" else accuracy.mean()
    bootstrap = interval(counts, absent)
    return Scores(
        miou=bootstrap.value,
        macc=100 * float(macc),
        aacc=100 * float(intersection.sum() / true.sum()),
        class_iou=tuple(None if np.isnan(iou) else 100 * float(iou) for iou in class_iou(totals, "skip")),
        miou_low=bootstrap.low,
        miou_high=bootstrap.high,
    )


def image_accuracy(counts: Counts) -> Floats:
    """Return the pixel accuracy of every image, (N,) in [0, 1]; NaN where all pixels are void.

    Args:
        counts: (N, 3, C) int64.
    """
    right, valid = counts[:, 0].sum(1).astype(np.float64), counts[:, 2].sum(1)
    accuracy: Floats = np.divide(right, valid, out=np.full(len(counts), np.nan), where=valid > 0)
    return accuracy


def interval(counts: Counts, absent: Absent) -> Interval:
    """Return the mIoU, averaged over runs, with its bootstrap interval.

    Images are resampled, and also runs if there are several.

    Args:
        counts: (N, 3, C), or (R, N, 3, C) for several runs over the same images.
        absent: see `mean_iou`.
    """
    runs = stacked_runs(counts)
    value = float(mean_iou(runs.sum(1), absent).mean())
    if len(runs) == 1:
        drawn = resampled(runs, absent, RESAMPLES)[0]
    else:
        drawn = np.concatenate([_means(runs, weights, absent, rng) for weights, rng in _drawn(len(runs[0]), RESAMPLES)])
    low, high = _ends(drawn)
    return Interval(100 * value, 100 * low, 100 * high)


def resampled(runs: Counts, absent: Absent, resamples: int) -> Floats:
    """Return the mIoU of every run in every bootstrap sample of the images, (R, samples) in [0, 1]; calls draw alike.

    Args:
        runs: (R, N, 3, C).
        absent: see `mean_iou`.
        resamples: number of bootstrap samples.
    """
    number, images, _, classes = runs.shape
    flat = np.moveaxis(runs, 1, 0).reshape(images, -1).astype(np.float64)
    each = [
        mean_iou((weights @ flat).reshape(-1, number, 3, classes), absent).T[:, places]
        for weights, places in different_draws(images, resamples)
    ]
    return np.ascontiguousarray(np.concatenate(each, axis=1))


def few_images(counts: Counts, names: Sequence[str], absent: Absent) -> str:
    """Return a sentence on the classes that are in fewer than `FEWEST_OF_CLASS` images; empty if there are none.

    Args:
        counts: (N, 3, C) of any network on the images.
        names: the classes' names; their numbers where there are none.
        absent: see `mean_iou`.
    """
    in_images = (counts[:, 2] > 0).sum(0)
    few = [
        f"{names[index] if index < len(names) else index} ({number})"
        for index, number in enumerate(in_images)
        if number < FEWEST_OF_CLASS and (number > 0 or absent == "skip")
    ]
    if not few:
        return ""
    said = f"{', '.join(few[:MOST_NAMED])}{f' and {len(few) - MOST_NAMED} more' * (len(few) > MOST_NAMED)}"
    return (
        f"{len(few)} of {len(in_images)} classes are in fewer than {FEWEST_OF_CLASS} of the {len(counts):,} images: "
        f"{said}. Intervals are conditional on these images: for other images of the same source the mIoU lies outside "
        "them more often than once in twenty."
    )


def stacked_runs(counts: Counts) -> Counts:
    """Return counts as (R, N, 3, C), with one run where there is no axis of runs."""
    if counts.ndim not in (3, 4) or counts.shape[-2] != 3 or counts.shape[-3] == 0:
        raise ValueError(f"counts must be (N, 3, C) or (R, N, 3, C) with N > 0, got {counts.shape}")
    return counts if counts.ndim == 4 else counts[None]


def draws(images: int, resamples: int) -> Iterable[Floats]:
    """Return how often each bootstrap sample draws each image, (samples, N), in chunks that bound the memory.

    A report draws alike thousands of times, so that small ones are kept.
    """
    if images * resamples <= _MOST_KEPT:
        return _kept(images, resamples)
    return (weights for weights, _ in _drawn(images, resamples))


def different_draws(images: int, resamples: int) -> Iterable[tuple[Floats, Places]]:
    """Return `draws` in chunks without those that are the same, and the places in a chunk that make its samples.

    Of a few images most samples are the same.
    """
    if images <= _FEW:
        return (_different(images, resamples),)
    return ((weights, slice(None)) for weights in draws(images, resamples))


@lru_cache(maxsize=4)
def _kept(images: int, resamples: int) -> tuple[Floats, ...]:
    return tuple(weights for weights, _ in _drawn(images, resamples))


@lru_cache(maxsize=4)
def _different(images: int, resamples: int) -> tuple[Floats, Places]:
    drawn = np.concatenate(list(draws(images, resamples)))
    different, places = np.unique(drawn, axis=0, return_inverse=True)
    return different, places.reshape(-1)


def _drawn(images: int, resamples: int) -> Iterator[tuple[Floats, np.random.Generator]]:
    """Yield the chunks of `draws`, each with the generator as it stands then."""
    rng = np.random.default_rng(_SEED)
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        picks = rng.integers(images, size=(size, images)) + images * np.arange(size)[:, None]
        yield np.bincount(picks.ravel(), minlength=size * images).reshape(size, images).astype(np.float64), rng


def _means(runs: Counts, weights: Floats, absent: Absent, rng: np.random.Generator) -> Floats:
    """Return the mIoU of every bootstrap sample, averaged over resampled runs.

    The product of floats is exact here, because it sums whole numbers.
    """
    _, images, _, classes = runs.shape
    flat = runs.reshape(len(runs), images, 3 * classes).astype(np.float64)
    per_run = np.stack([mean_iou((weights @ run).reshape(-1, 3, classes), absent) for run in flat], axis=1)
    picks = rng.integers(len(runs), size=per_run.shape)
    means: Floats = np.take_along_axis(per_run, picks, axis=1).mean(1)
    return means


def _ends(drawn: Floats) -> tuple[float, float]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)
