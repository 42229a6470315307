"""Differences of networks and intervals over runs: how far another choice of images, or another training, moves a mean.

A value is a mean over runs of networks that were trained anew, scored on the same images. Its variance has two parts.
That of the images is taken from a bootstrap that resamples images and keeps the runs. That of the training is taken
from the spread between runs. Where an attack was made on other networks (black-box), runs that share a target or a
source are not independent: the mean over each target is one observation, and so is the mean over each source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from segbench.reports.records import Record
from segbench.reports.statistics import RESAMPLES, Absent, Counts, Floats, Interval, mean_iou, resampled, stacked_runs

FEWEST_IMAGES = 12
"""With fewer images a bootstrap over images finds differences where there are none, so that no p-value is given."""
_NORMAL = 1.959964
"""The 97.5 % quantile of a normal distribution."""


class Difference(NamedTuple):
    """A difference of two values and what it rests on.

    Attributes:
        value: the difference, in percentage points.
        low: lower end of its 95 % interval.
        high: upper end of that interval.
        p: two-sided p-value; 1 with fewer than `FEWEST_IMAGES` images.
        runs: smallest number of independent trainings on one side, or of sources that the attacks were made on. With 1
            the difference is one of these networks, and says nothing of another training.
    """

    value: float
    low: float
    high: float
    p: float
    runs: int


class Runs(NamedTuple):
    """The runs of one cell of a table.

    Attributes:
        counts: (R, N, 3, C), over the same images in the same order.
        targets: which network each run scored; two runs with one name are one training.
        sources: which network each run was attacked through; equal to `targets` unless the attack is a transfer.
    """

    counts: Counts
    targets: tuple[str, ...]
    sources: tuple[str, ...]


def runs_of(counts: Counts, records: Sequence[Record]) -> Runs:
    """Return runs with the networks of their records.

    Networks are told apart by their weights, so that one checkpoint under two seeds is one training.

    Args:
        counts: (R, N, 3, C), one run for each record.
        records: the records.
    """
    return Runs(counts, *trainings(records))


def trainings(records: Sequence[Record]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names of the networks that records scored, and of those that they were attacked through; see `Runs`.

    Args:
        records: the records.
    """
    targets = tuple(record.target.weights_sha256 or record.target.digest for record in records)
    sources = tuple(
        (record.source.weights_sha256 or record.source.digest) if record.setting == "black-box" else target
        for record, target in zip(records, targets, strict=True)
    )
    return targets, sources


def paired_bootstrap(
    counts_a: Counts | Runs, counts_b: Counts | Runs, absent: Absent, *, resamples: int = RESAMPLES
) -> Difference:
    """Return the difference in mIoU, a - b, of two networks or means over runs that were scored on the same images.

    With one run on each side, the interval is a percentile bootstrap over images, widened by Student's t for their
    number. The p-value is twice the smaller share of samples on one side of 0, the observation counted as a sample, and
    at least that of a t-test with the bootstrap's standard error. With more runs, interval and p-value are those of a
    t-test whose variance adds the spread over runs, with Satterthwaite's degrees of freedom. Those are too many where
    few runs agree by chance: with unequal numbers of runs the interval is at least as wide, and the p-value at least as
    large, as if both sides scattered alike. The p-value is also at least 2 / 2^N: if there is no difference, N images
    all favour the same network with that probability. With fewer than `FEWEST_IMAGES` images it is 1.

    Args:
        counts_a: (N, 3, C), (R, N, 3, C) for R trainings, or runs.
        counts_b: the same images in the same order; the number of runs may differ.
        absent: see `statistics.mean_iou`.
        resamples: number of bootstrap samples.

    Raises:
        ValueError: the two networks were not scored on the same pixels.

    Source: Satterthwaite 1946, An approximate distribution of estimates of variance components; Hesterberg 2015, What
        teachers should know about the bootstrap, section 4.3 (the widened interval), https://arxiv.org/abs/1411.5279.
    """
    a, b = _as_runs(counts_a, "a"), _as_runs(counts_b, "b")
    if a.counts.shape[1:] != b.counts.shape[1:] or not np.array_equal(a.counts[0, :, 2], b.counts[0, :, 2]):
        raise ValueError(
            f"a paired comparison needs the same images, got {a.counts.shape[1:]} and {b.counts.shape[1:]} counts "
            "of them"
        )
    values_a, values_b = _values(a, absent), _values(b, absent)
    spreads = [_spread(values_a, a.targets), _spread(values_b, b.targets)]
    alike = _alike(*(own for own in spreads if own is not None))
    number = min(len(set(a.targets)), len(set(b.targets)))
    if a.sources != a.targets or b.sources != b.targets:
        spreads.append(_spread_of_sources(values_a, values_b, a.sources, b.sources))
        number = min(number, len(set(a.sources) & set(b.sources)))
    drawn = resampled_miou(a.counts, absent, resamples) - resampled_miou(b.counts, absent, resamples)
    images = a.counts.shape[1]
    return _concluded(float(values_a.mean() - values_b.mean()), spreads, number, drawn, images, alike)


def of_pairs(
    differences: Floats, targets: Sequence[str], sources: Sequence[str], drawn: Floats, images: int
) -> Difference:
    """Return the mean difference of runs that belong together two by two, such as one seed before and after a change.

    It is valid whether the two runs of a pair have anything in common or not.

    Args:
        differences: (R,) the difference of a metric in each pair of runs.
        targets: which network each pair scored.
        sources: which network each pair was attacked through; equal to `targets` unless the attack is a transfer.
        drawn: (S,) mean differences in bootstrap samples of the images.
        images: number of images.
    """
    spreads = [_spread(differences, targets)]
    number = len(set(targets))
    if tuple(sources) != tuple(targets):
        spreads.append(_spread(differences, sources))
        number = min(number, len(set(sources)))
    return _concluded(float(differences.mean()), spreads, number, drawn, images)


def _concluded(
    value: float,
    spreads: Sequence[_Spread | None],
    number: int,
    drawn: Floats,
    images: int,
    alike: _Spread | None = None,
) -> Difference:
    """Return a difference with its interval and p-value; see `paired_bootstrap`.

    `alike` may stand in for the first two spreads; what is less sure of the two counts.
    """
    drawn = drawn[~np.isnan(drawn)]
    parts = [_of_images(drawn, images), *(own for own in spreads if own is not None)]
    sums = [_summed(parts)]
    if alike is not None:
        sums.append(_summed([parts[0], alike, *parts[3:]]))
    p = max(_p_value(value, *own) for own in sums)
    if len(parts) > 1:
        reach = max(_reach(*own) for own in sums)
        low, high = value - reach, value + reach
    else:
        widened = _widening(images)
        low, high = (value + widened * (end - value) for end in np.percentile(drawn, [2.5, 97.5]))
        side = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        p = max(p, 2 * (side + 1) / (len(drawn) + 1))
    p = 1.0 if images < FEWEST_IMAGES else min(1.0, max(p, 2.0 ** (1 - images)))
    return Difference(value, float(low), float(high), p, number)


def interval_over_runs(runs: Runs, absent: Absent) -> Interval:
    """Return the mean mIoU of several runs with a 95 % interval over images, trainings and sources, in per cent.

    Args:
        runs: the runs.
        absent: see `statistics.mean_iou`.
    """
    drawn = resampled_miou(runs.counts, absent)
    found = over_runs(_values(runs, absent), runs.targets, runs.sources, drawn, runs.counts.shape[1])
    return Interval(found.value, max(0.0, found.low), min(100.0, found.high))


def over_runs(values: Floats, targets: Sequence[str], sources: Sequence[str], drawn: Floats, images: int) -> Interval:
    """Return the mean of a number over runs with a 95 % interval, which is not cut to the range of the number.

    With one run it is a percentile bootstrap over images; with several, that of Student's t with the variances over
    images, trainings and sources added.

    Args:
        values: (R,) the number in each run.
        targets: which network each run scored; two runs with one name are one training.
        sources: which network each run was attacked through; equal to `targets` unless the attack is a transfer.
        drawn: (S,) means over the runs in bootstrap samples of the images, the runs being kept.
        images: number of images.
    """
    drawn = drawn[~np.isnan(drawn)]
    value = float(values.mean())
    if not len(drawn):
        return Interval(value, np.nan, np.nan)
    if len(values) == 1:
        low, high = np.percentile(drawn, [2.5, 97.5])
        return Interval(value, float(low), float(high))
    spreads = [_spread(values, targets)]
    if tuple(sources) != tuple(targets):
        spreads.append(_spread(values, sources))
    reach = _reach(*_summed([_of_images(drawn, images), *(own for own in spreads if own is not None)]))
    return Interval(value, value - reach, value + reach)


class _Spread(NamedTuple):
    """The variance of a mean, and its degrees of freedom."""

    variance: float
    freedom: int


def _as_runs(counts: Counts | Runs, side: str) -> Runs:
    if isinstance(counts, Runs):
        return counts
    runs = stacked_runs(counts)
    names = tuple(f"{side}{run}" for run in range(len(runs)))
    return Runs(runs, names, names)


def _values(runs: Runs, absent: Absent) -> Floats:
    values: Floats = 100 * mean_iou(runs.counts.sum(1), absent)
    return values


def resampled_miou(runs: Counts, absent: Absent, resamples: int = RESAMPLES) -> Floats:
    """Return the mean mIoU over runs in every bootstrap sample of the images, in per cent; two calls draw alike.

    Args:
        runs: (R, N, 3, C).
        absent: see `statistics.mean_iou`.
        resamples: number of bootstrap samples.
    """
    means: Floats = resampled(runs, absent, resamples).mean(0)
    return 100 * means


def _of_images(drawn: Floats, images: int) -> _Spread:
    """Return the variance over images; that of a bootstrap is too small by (N - 1) / N."""
    return _Spread(float(drawn.var()) * images / max(images - 1, 1), max(images - 1, 1))


def _spread(values: Floats, names: Sequence[str]) -> _Spread | None:
    """Return the variance of the mean over groups of runs with one name; None with one group."""
    distinct = dict.fromkeys(names)
    means = values.tolist()
    if len(distinct) < len(means):
        means = [float(values[[name == own for own in names]].mean()) for name in distinct]
    return _Spread(float(np.var(means, ddof=1)) / len(means), len(means) - 1) if len(means) > 1 else None


def _alike(*sides: _Spread) -> _Spread | None:
    """Return the variance of a difference of two means whose runs scatter alike; None with equally many, or too few."""
    if len(sides) < 2 or sides[0].freedom == sides[1].freedom:
        return None
    freedom = sum(side.freedom for side in sides)
    squares = sum(side.variance * (side.freedom + 1) * side.freedom for side in sides)
    return _Spread(squares / freedom * sum(1 / (side.freedom + 1) for side in sides), freedom)


def _spread_of_sources(a: Floats, b: Floats, sources_a: Sequence[str], sources_b: Sequence[str]) -> _Spread | None:
    """Return the variance of the mean difference over sources that both sides were attacked through."""
    shared = [name for name in dict.fromkeys(sources_a) if name in sources_b]
    differences = [
        float(a[[name == own for own in sources_a]].mean() - b[[name == own for own in sources_b]].mean())
        for name in shared
    ]
    return _spread(np.array(differences), shared)


def _summed(parts: Sequence[_Spread]) -> tuple[float, float]:
    """Return the sum of variances and Satterthwaite's degrees of freedom."""
    variance = sum(part.variance for part in parts)
    weight = sum(part.variance**2 / part.freedom for part in parts)
    return variance, variance**2 / weight if weight > 0 else 1.0


def _p_value(value: float, variance: float, freedom: float) -> float:
    if variance == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * scipy.special.stdtr(freedom, -abs(value) / np.sqrt(variance)))


def _reach(variance: float, freedom: float) -> float:
    """Return half the width of a 95 % interval."""
    return float(scipy.special.stdtrit(freedom, 0.975) * np.sqrt(variance)) if variance > 0 else 0.0


def _widening(images: int) -> float:
    """Return the factor that widens a percentile interval of few images to that of Student's t."""
    freedom = max(images - 1, 1)
    return float(scipy.special.stdtrit(freedom, 0.975) / _NORMAL * np.sqrt(images / freedom))
