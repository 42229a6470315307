"""Objects by size, against flood fill, scikit-image and a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from segbench.evaluation.objects import object_counts, objects_of
from segbench.reports.metrics import objects

VOID = 255


def scene(seed: int, size: tuple[int, int] = (150, 170)) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return truth and prediction with objects of every size."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(size, dtype=np.int64)
    truth[:110, :110] = 1
    truth[115:148, 5:60] = 2
    for _ in range(12):
        row, column = rng.integers(0, np.array(size) - 9)
        truth[row : row + 9, column : column + rng.integers(1, 9)] = rng.integers(0, 3)
    preds = np.where(ndimage.gaussian_filter(rng.normal(size=size), 5) > 0.02, (truth + 1) % 3, truth)
    truth[111:114] = VOID
    return truth, preds


def counted(truth: NDArray[np.int64], preds: NDArray[np.int64]) -> NDArray[np.int32]:
    labels = torch.from_numpy(truth)[None]
    return object_counts(torch.from_numpy(preds)[None], labels, objects_of(labels, VOID))[0].numpy()


def flooded(truth: NDArray[np.int64]) -> list[list[tuple[int, int]]]:
    """Return the pixels of every object, by flood fill over the 8 neighbours."""
    left = {(int(row), int(column)) for row, column in np.argwhere(truth != VOID)}
    found = []
    while left:
        border = [left.pop()]
        own = list(border)
        while border:
            row, column = border.pop()
            for near in [(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)]:
                if near in left and truth[near] == truth[row, column]:
                    left.remove(near)
                    border.append(near)
                    own.append(near)
        found.append(own)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_counts_are_those_of_flood_fill(seed: int) -> None:
    truth, preds = scene(seed)
    expected = np.zeros((4, 3), dtype=int)
    for own in flooded(truth):
        size = 0 if len(own) < 32**2 else 1 if len(own) < 96**2 else 2
        right = sum(preds[pixel] == truth[pixel] for pixel in own)
        expected[:, size] += 1, 2 * right >= len(own), len(own), right
    assert (expected[0] > 0).all()
    np.testing.assert_array_equal(counted(truth, preds), expected)


def test_objects_are_those_of_scikit_image() -> None:
    measure = pytest.importorskip("skimage.measure", reason="compares with scikit-image")
    truth, _ = scene(2)
    numbers, _ = measure.label(np.where(truth == VOID, -1, truth), background=-1, return_num=True, connectivity=2)
    ours = objects_of(torch.from_numpy(truth)[None], VOID)
    assert sorted(ours.pixels) == sorted(np.bincount(numbers.ravel())[1:])
    pairs = set(zip(numbers.ravel().tolist(), ours.numbers.flatten().tolist(), strict=True))
    assert len(pairs) == len(ours.pixels) + 1


def test_shares_of_a_known_scene() -> None:
    truth = np.zeros((200, 200), dtype=np.int64)
    truth[10:20, 10:20] = 1  # small, 100 pixels
    truth[40:50, 10:20] = 1  # small, found in half of its pixels
    truth[100:140, 100:140] = 2  # medium, lost
    preds = truth.copy()
    preds[40:50, 10:15] = 0
    preds[100:140, 100:140] = 0
    counts = counted(truth, preds)[None]
    assert objects.recall(counts, "small") == 150 / 200
    assert objects.found(counts, "small") == 1
    assert objects.recall(counts, "medium") == objects.found(counts, "medium") == 0
    assert objects.recall(counts, "large") == objects.found(counts, "large") == 1
    preds[40:50, 10:16] = 0
    assert objects.found(counted(truth, preds)[None], "small") == 1 / 2


def test_void_pixels_are_no_object_and_divide_none_that_touch_around_them() -> None:
    truth, preds = scene(3)
    changed = np.where(truth == VOID, (preds + 1) % 3, preds)
    np.testing.assert_array_equal(counted(truth, changed), counted(truth, preds))
    nothing = counted(np.full_like(truth, VOID), preds)
    assert not nothing.any()
    assert np.isnan(objects.recall(nothing[None], "small"))
    assert np.isnan(objects.found(nothing[None], "small"))
