"""What is left of every object, counted by size; `segbench.reports.metrics.objects` says what an object is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.reports.metrics.objects import LIMITS, ROWS, SIZES

_TOUCHING = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Objects:
    """The objects of one image's truth.

    Attributes:
        numbers: the number of each pixel's object from 1 on, (H, W) int32; 0 where void.
        pixels: of each object, (K,).
    """

    numbers: Tensor
    pixels: NDArray[np.int64]


def objects_of(truth: Tensor, ignore_index: int) -> Objects:
    """Find the objects of one image: the connected sets of pixels of each class.

    Args:
        truth: true labels (H, W).
        ignore_index: label of void pixels.
    """
    labels = torch.where(truth != ignore_index, truth + 1, 0).cpu().numpy()
    numbers = np.zeros(labels.shape, dtype=np.int32)
    highest = 0
    for label, box in enumerate(scipy.ndimage.find_objects(labels), 1):
        if box is not None:
            own, count = scipy.ndimage.label(labels[box] == label, _TOUCHING)
            np.copyto(numbers[box], own + highest, where=own > 0)
            highest += count
    pixels = np.bincount(numbers.ravel(), minlength=highest + 1)[1:]
    return Objects(torch.from_numpy(numbers).to(truth.device), pixels)


def object_counts(preds: Tensor, truth: Tensor, objects: Objects) -> NDArray[np.int32]:
    """Count objects, found ones, their pixels and their right pixels, by size, (4, 3).

    Args:
        preds: predicted labels (H, W).
        truth: true labels (H, W).
        objects: of the truth.
    """
    here = (preds == truth) & (objects.numbers > 0)
    right = torch.bincount(objects.numbers[here], minlength=len(objects.pixels) + 1)[1:].cpu().numpy()
    size = np.digitize(objects.pixels, LIMITS)
    rows = (np.ones_like(right), 2 * right >= objects.pixels, objects.pixels, right)
    counts = np.zeros((ROWS, len(SIZES)), dtype=np.int32)
    for row, values in enumerate(rows):
        np.add.at(counts[row], size, values.astype(np.int32))
    return counts
