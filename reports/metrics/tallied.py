"""What was counted on every image of one evaluation, and how counts of each family are laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segbench.reports.metrics import boundary, confidence, objects
from segbench.reports.statistics import Absent, Counts

Family = Literal["confidence", "boundary", "objects"]
"""What can be counted beside the pixels of each class; a file of an evaluation has an array for each."""

Tallies = Mapping[str, NDArray[Any]]
"""Family -> its counts, the first axis being the images."""


@dataclass(frozen=True)
class Tallied:
    """The counts of one evaluation, from which every metric is computed.

    All of them are per image and additive, so that `take` gives the counts of a bootstrap sample.

    Attributes:
        counts: (N, 3, C) intersections, predicted and true pixels of every class.
        absent: what a class counts in mIoU that is neither true nor predicted.
        tallies: family -> its counts: "confidence" (N, 4, 40), see `confidence`; "boundary" (N, 19, C), see
            `boundary`; "objects" (N, 4, 3), see `objects`. A family that was not tallied is not in it.
    """

    counts: Counts
    absent: Absent
    tallies: Tallies = field(default_factory=dict)

    def take(self, images: NDArray[np.integer[Any]]) -> Tallied:
        """Return the counts of chosen images, which may repeat.

        Args:
            images: (M,) positions of images.
        """
        chosen = {family: array[images] for family, array in self.tallies.items()}
        return Tallied(self.counts[images], self.absent, chosen)


def wrong(tallied: Tallied) -> str | None:
    """Say where tallies contradict the counts of pixels beside them, or return None."""
    right, _, true = (tallied.counts[:, row].sum(1) for row in range(3))
    shapes = {
        "confidence": (confidence.ROWS, confidence.BINS),
        "boundary": (boundary.ROWS, tallied.counts.shape[2]),
        "objects": (objects.ROWS, len(objects.SIZES)),
    }
    for family, array in tallied.tallies.items():
        if family not in shapes or array.shape != (len(tallied.counts), *shapes[family]):
            return f"tallies of {family} have the shape {array.shape}"
        if not np.isfinite(array).all() or (array < 0).any():
            return f"tallies of {family} hold values that are no counts"
    found = tallied.tallies
    if "confidence" in found:
        pixels, own_right = found["confidence"][:, 0].sum(1), found["confidence"][:, 1].sum(1)
        if not (np.array_equal(pixels, true) and np.array_equal(own_right, right)):
            return "bins of confidence hold other pixels than the counts"
    if "objects" in found:
        pixels, own_right = found["objects"][:, 2].sum(1), found["objects"][:, 3].sum(1)
        if not (np.array_equal(pixels, true) and np.array_equal(own_right, right)):
            return "objects hold other pixels than the counts"
    if "boundary" in found and (boundary.trimap(found["boundary"], boundary.WIDTHS[-1]) > tallied.counts).any():
        return "there are more pixels near boundaries than pixels"
    return None
