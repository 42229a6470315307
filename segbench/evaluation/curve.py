"""The curve of an attack: what its best candidates so far leave, by the number of forward passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segbench.attacks.tools.losses import predicted
from segbench.attacks.tools.watch import Candidates
from segbench.evaluation.counting import fetched, pixels
from segbench.reports.statistics import Absent, mean_iou


def _grid() -> NDArray[np.int64]:
    """Return the numbers of passes at which a curve has its points: 1 to 10, then each a tenth larger, up to 20000."""
    points = [1]
    while points[-1] < 20_000:
        points.append(points[-1] + max(points[-1] // 10, 1))
    return np.array(points)


GRID = _grid()
TOGETHER = 32
"""Passes whose counts are fetched together."""


@dataclass
class Curve:
    """The sum over images of the best candidates' pixels after each number of passes of `GRID`.

    Attributes:
        counts: intersections, predicted and true pixels of every class, (len(GRID), 3, C); None before the first image.
        most: largest number of passes that an image took.
        first: smallest number of passes after which every image had a candidate that keeps the budget.
    """

    counts: NDArray[np.int64] | None = field(default=None)
    most: int = 0
    first: int = 1

    def add(self, seen: Seen) -> None:
        """Add the images of one batch."""
        found = seen.counts()
        self.counts = found if self.counts is None else self.counts + found
        self.most = max(self.most, int(seen.passes.max()))
        self.first = max(self.first, seen.first)

    def extend(self, other: Curve) -> None:
        """Add the images of another curve."""
        if other.counts is not None:
            self.counts = other.counts if self.counts is None else self.counts + other.counts
        self.most, self.first = max(self.most, other.most), max(self.first, other.first)

    def points(self, absent: Absent, share: float | None = None) -> tuple[tuple[int, float], ...]:
        """Return (passes, mIoU in per cent), from the first point at which every image has a candidate.

        Args:
            absent: what a class counts that is neither true nor predicted.
            share: the part of the passes that count, for an evaluation whose attack is the beginning of this one; the
                curve then ends at a point of `GRID`. None for all passes; the curve then ends where the attack did.
        """
        if self.counts is None:
            return ()
        most = round(self.most * (1 if share is None else share))
        places = {int(passes): place for place, passes in enumerate(GRID) if self.first <= passes <= most}
        if share is None and most >= self.first:
            places[most] = _after(most)
        return tuple((passes, 100 * float(mean_iou(self.counts[place], absent))) for passes, place in places.items())


def _after(passes: int) -> int:
    """Return the place in `GRID` of the first number that is not smaller."""
    return int(np.searchsorted(GRID, passes))


class Seen:
    """The best candidate so far of each image of one batch, by right pixels, at the points of `GRID`.

    Args:
        masks: (N, H, W).
        num_classes: number of classes C.
        ignore_index: label of void pixels.
    """

    def __init__(self, masks: Tensor, num_classes: int, ignore_index: int) -> None:
        self.masks, self.classes, self.void = masks, num_classes, ignore_index
        self.passes = np.zeros(len(masks), np.int64)
        self.right = np.full(len(masks), np.iinfo(np.int64).max)
        self.found = np.zeros(len(masks), np.int64)
        self.at = np.zeros((len(GRID), len(masks), 3, num_classes), np.int64)
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def see(self, candidates: Candidates) -> None:
        """Take note of the candidates of one forward pass; the device is waited for once in `TOGETHER` passes."""
        _, logits, own, inside = candidates
        self.waiting.append((own, inside, pixels(predicted(logits), self.masks[own], self.classes, self.void)))
        if len(self.waiting) == TOGETHER:
            self._look()

    @property
    def first(self) -> int:
        """Number of passes after which every image has a candidate; beyond `GRID` if one has none."""
        self._look()
        return int(self.found.max()) if (self.found > 0).all() else int(GRID[-1]) + 1

    def counts(self) -> NDArray[np.int64]:
        """Return the sum over the images, (len(GRID), 3, C)."""
        self._look()
        summed: NDArray[np.int64] = self.at.sum(1)
        return summed

    def _look(self) -> None:
        """Compare the candidates that wait, in their order."""
        rows = fetched([tensor for one in self.waiting for tensor in one])
        self.waiting.clear()
        for own, inside, counts in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            for image, keeps, found in zip(own.tolist(), inside.tolist(), counts, strict=True):
                self.passes[image] += 1
                if keeps and found[0].sum() < self.right[image]:
                    self.right[image] = found[0].sum()
                    self.found[image] = self.found[image] or self.passes[image]
                    # A better candidate writes over the later points, so that the last state stands at all of them.
                    self.at[_after(self.passes[image]) :, image] = found
