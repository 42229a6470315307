"""What is left of every object, counted by size; `segbench.reports.metrics.objects` says what an object is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.evaluation.counting import counted
from segbench.reports.metrics.objects import LIMITS, SIZES


@dataclass(frozen=True)
class Objects:
    """The objects in the truth of some images.

    Attributes:
        numbers: the number of each pixel's object from 1 on, through all images, (N, H, W) int32; 0 where void.
        image: of each object, (K,).
        pixels: of each object, (K,).
    """

    numbers: Tensor
    image: NDArray[np.int64]
    pixels: NDArray[np.int64]


def objects_of(truth: Tensor, ignore_index: int) -> Objects:
    """Find the objects of some images: the connected sets of pixels of each class.

    Args:
        truth: true labels (N, H, W).
        ignore_index: label of void pixels.
    """
    labels = truth.cpu().numpy()
    begins = np.ones(labels.shape, dtype=bool)  # runs of one label in a row
    np.not_equal(labels[..., 1:], labels[..., :-1], out=begins[..., 1:])
    runs = np.cumsum(begins, dtype=np.int32).reshape(labels.shape) - 1
    first = np.flatnonzero(begins)
    one, other = _touching(labels, begins, runs)
    size = len(first)
    graph = scipy.sparse.coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(size, size))
    count, groups = scipy.sparse.csgraph.connected_components(graph, directed=False)
    image = np.zeros(count, dtype=np.int64)
    image[groups] = first // max(1, labels[0].size)
    valid = np.zeros(count, dtype=bool)
    valid[groups] = labels.ravel()[first] != ignore_index
    number = np.where(valid, np.cumsum(valid), 0).astype(np.int32)
    numbers = number[groups][runs]
    pixels = np.bincount(numbers.ravel(), minlength=int(valid.sum()) + 1)[1:]
    return Objects(torch.from_numpy(numbers).to(truth.device), image[valid], pixels)


def _touching(labels: NDArray[Any], begins: NDArray[np.bool_], runs: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    """Return pairs of runs of one label that touch, corners included, as two arrays.

    Runs above each other do at the first pixel of one of them. Those that only touch at a corner both have their end
    there.
    """
    above, below = np.s_[:, :-1], np.s_[:, 1:]
    left, right = np.s_[:, :-1, :-1], np.s_[:, :-1, 1:]
    below_left, below_right = np.s_[:, 1:, :-1], np.s_[:, 1:, 1:]
    corner = begins[right] & begins[below_right]
    pairs = []
    for upper, lower, here in (
        (above, below, begins[above] | begins[below]),
        (left, below_right, corner),
        (right, below_left, corner),
    ):
        touch = (labels[upper] == labels[lower]) & here
        pairs.append((runs[upper][touch], runs[lower][touch]))
    return [np.concatenate(side) for side in zip(*pairs, strict=True)]


def object_counts(preds: Tensor, truth: Tensor, objects: Objects) -> Tensor:
    """Count objects, found ones, their pixels and their right pixels, by size, for each image, (N, 4, 3).

    Args:
        preds: predicted labels (N, H, W).
        truth: true labels (N, H, W).
        objects: of the truth.
    """
    count, sizes = len(objects.pixels), len(SIZES)
    right = counted(objects.numbers * (preds == truth), count + 1)[1:]
    place = objects.image * sizes + np.digitize(objects.pixels, LIMITS)
    pixels, bins = (torch.from_numpy(row).to(right) for row in (objects.pixels, place))
    rows = (torch.ones_like(right), (2 * right >= pixels).long(), pixels, right)
    found = [counted(bins, len(preds) * sizes, row).view(-1, sizes) for row in rows]
    return torch.stack(found, 1).to(torch.int32)
