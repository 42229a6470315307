"""A metric: a named number of one evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.reports.metrics.tallied import Tallied

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A number that one evaluation has.

    Attributes:
        name: its name, such as "miou", "person.iou" or "recall.small".
        heading: what tables call it.
        sentence: what it is, in one sentence.
        higher_is_better: True for IoU and recall, False for errors.
        family: the tallies that it needs beside the counts of pixels, or "counts" where those are all.
        of: the counts of an evaluation -> its value, NaN where it has none.
        per_cent: values are from 0 to 100 and differences are percentage points.
        most: the highest value that there can be; the lowest one is 0.
        images: the counts of an evaluation -> what the metric needs of each image, (M,) or (M, C); None where the sums
            over images of the counts are enough.
        of_images: what `images` gives -> the value.
    """

    name: str
    heading: str
    sentence: str
    higher_is_better: bool
    family: str
    of: Callable[[Tallied], float]
    per_cent: bool = True
    most: float = 100.0
    images: Callable[[Tallied], Floats] | None = None
    of_images: Callable[[Floats], float] | None = None

    @property
    def unit(self) -> str:
        """The unit of its values, "%" or none."""
        return "%" if self.per_cent else ""

    @property
    def digits(self) -> int:
        """The decimals that tables show."""
        return 1 if self.per_cent else 3

    def on(self, tallied: Tallied) -> float | None:
        """Return its value for an evaluation; None where it has none, or its family was not tallied."""
        if self.family != "counts" and self.family not in tallied.tallies:
            return None
        value = self.of(tallied)
        return None if np.isnan(value) else float(value)


def counted(name: str, heading: str, sentence: str, of: Callable[[Tallied], float]) -> Metric:
    """Return a metric of the counts of pixels, a share that is better the higher it is."""
    return Metric(name, heading, sentence, True, "counts", lambda tallied: 100 * of(tallied))


def of_each_image(
    name: str,
    heading: str,
    sentence: str,
    images: Callable[[Tallied], Floats],
    of: Callable[[Floats], float],
    *,
    higher: bool = True,
) -> Metric:
    """Return a metric of what each image has, a share that is better the higher it is unless `higher` says no.

    Args:
        name: its name.
        heading: what tables call it.
        sentence: what it is.
        images: the counts of an evaluation -> what each image has.
        of: what each image has -> the share.
        higher: higher values are better.
    """

    def whole(values: Floats) -> float:
        return 100 * of(values)

    return Metric(
        name,
        heading,
        sentence,
        higher,
        "counts",
        lambda tallied: whole(images(tallied)),
        images=images,
        of_images=whole,
    )


def confident(
    name: str, heading: str, sentence: str, of: Callable[..., float], *, higher: bool = False, most: float = 1.0
) -> Metric:
    """Return a metric of confidence, not in per cent, which is better the lower it is unless `higher` says so."""

    def value(tallied: Tallied) -> float:
        return of(tallied.tallies["confidence"])

    return Metric(name, heading, sentence, higher, "confidence", value, per_cent=False, most=most)


def outlined(name: str, heading: str, sentence: str, of: Callable[..., float]) -> Metric:
    """Return a metric of boundaries, a share that is better the higher it is."""
    return Metric(name, heading, sentence, True, "boundary", lambda t: 100 * of(t.tallies["boundary"]))


def of_objects(name: str, heading: str, sentence: str, of: Callable[..., float]) -> Metric:
    """Return a metric of the sizes of objects, a share that is better the higher it is."""
    return Metric(name, heading, sentence, True, "objects", lambda t: 100 * of(t.tallies["objects"]))
