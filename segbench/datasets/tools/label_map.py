"""What the values of a mask's pixels mean: a class, or void."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.datasets.base import VOID
from segbench.datasets.tools.images import Labels
from segbench.errors import DataError

MOST_CLASSES = 255
"""Labels are bytes, and 255 is void."""
LARGEST = 65535
LAST = -1
"""In a map: the largest value that a mask of 8 or 16 bits can hold, as -1 becomes when it is written to one."""
MOST_TOLD = 12
"""Runs of known values that a message tells."""


@dataclass(frozen=True)
class LabelMap:
    """A map from the values in mask files to classes.

    Attributes:
        meaning: a class, 0..C-1, or 255 for void, by the value in the file; a value that is not here is an error.
        colours: the files hold colours, and a value is 0xRRGGBB.
    """

    meaning: Mapping[int, int]
    colours: bool = False

    @classmethod
    def of(cls, count: int, void: Iterable[int] = (VOID,)) -> LabelMap:
        """Return the map of files that hold the labels of `count` classes, and of void as they are."""
        return cls({**{label: label for label in range(count)}, **{label: VOID for label in void}})

    def apply(self, values: Labels, path: object) -> NDArray[np.uint8]:
        """Return the classes of a mask's pixels.

        Args:
            values: what the file holds, (H, W).
            path: the file, or what else errors name.

        Raises:
            DataError: there is a value that the map does not know.
        """
        meaning = self.meaning
        if LAST in meaning and values.dtype.kind == "u":
            last = int(np.iinfo(values.dtype).max)
            meaning = {last if value == LAST else value: label for value, label in meaning.items()}
        small = values.dtype.kind == "u" and values.dtype.itemsize <= 2
        present = np.flatnonzero(np.bincount(values.ravel())) if small else np.unique(values)
        unknown = [value for value in present.tolist() if value not in meaning]
        if unknown:
            what = f"colour {_colour(unknown[0])}" if self.colours else f"label {unknown[0]}"
            raise DataError(f"{path}: mask holds {what}, but only {self._told(meaning)} are known")
        labels = np.array([meaning[value] for value in present.tolist()], np.uint8)
        if not small:
            return labels[np.searchsorted(present, values)]
        table = np.zeros(int(present[-1]) + 1, np.uint8)
        table[present] = labels
        mapped: NDArray[np.uint8] = table[values]
        return mapped

    def _told(self, meaning: Mapping[int, int]) -> str:
        """Write {0, 1, 2, 255} as "0-2, 255"."""
        runs: list[list[int]] = []
        for value in sorted(meaning):
            if runs and value == runs[-1][-1] + 1 and not self.colours:
                runs[-1].append(value)
            else:
                runs.append([value])
        write = _colour if self.colours else str
        told = [write(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:MOST_TOLD]]
        return ", ".join(told) + (f" and {len(runs) - MOST_TOLD} more" if len(runs) > MOST_TOLD else "")


def _colour(value: int) -> str:
    return str([value >> 16 & 255, value >> 8 & 255, value & 255])
