"""What is left of every object, counted by size; `segbench.reports.metrics.objects` says what an object is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.evaluation.counting import counted
from segbench.reports.metrics.objects import LIMITS, SIZES

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


def object_counts(preds: Tensor, truth: Tensor, objects: Objects) -> Tensor:
    """Count objects, found ones, their pixels and their right pixels, by size, (4, 3).

    Args:
        preds: predicted labels (H, W).
        truth: true labels (H, W).
        objects: of the truth.
    """
    count = len(objects.pixels)
    numbers = objects.numbers.long()
    right = counted(torch.where((preds == truth) & (numbers > 0), numbers - 1, count), count)
    pixels, size = (torch.from_numpy(row).to(right) for row in (objects.pixels, np.digitize(objects.pixels, LIMITS)))
    rows = (torch.ones_like(right), (2 * right >= pixels).long(), pixels, right)
    return torch.stack([counted(size, len(SIZES), row) for row in rows]).to(torch.int32)
