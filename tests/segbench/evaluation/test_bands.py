"""Pixels near boundaries, against slow loops, SciPy's distance transforms, OpenCV and MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from segbench.evaluation.bands import band_counts, true_bands
from segbench.reports.metrics import boundary

VOID, CLASSES = 255, 3
Labels = NDArray[np.int64]


def blobs(seed: int, size: tuple[int, int] = (31, 44), classes: int = CLASSES) -> Labels:
    """Return a label map of smooth shapes."""
    rng = np.random.default_rng(seed)
    return np.stack([ndimage.gaussian_filter(rng.normal(size=size), 3) for _ in range(classes)]).argmax(0)


def sample(seed: int, *, void: bool = True) -> tuple[Labels, Labels]:
    """Return truth and prediction: the prediction is the truth, moved and with another shape in it."""
    truth = blobs(seed)
    preds = np.where(blobs(seed + 100) == 0, blobs(seed + 200), np.roll(truth, 2, axis=1))
    if void:
        truth = np.where(
            ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=truth.shape), 2) > 0.13, VOID, truth
        )
    return truth, preds


def counted(truth: Labels, preds: Labels) -> NDArray[np.int32]:
    true = true_bands(torch.from_numpy(truth)[None], CLASSES, VOID)
    return band_counts(torch.from_numpy(preds)[None], true)[0].numpy()


def other_within(labels: Labels, row: int, column: int, radius: int, *, outside: bool) -> bool:
    """Whether a square around a pixel holds a valid pixel of another class, or reaches out of the image."""
    for r in range(row - radius, row + radius + 1):
        for c in range(column - radius, column + radius + 1):
            if not (0 <= r < labels.shape[0] and 0 <= c < labels.shape[1]):
                if outside:
                    return True
            elif labels[r, c] not in (VOID, labels[row, column]):
                return True
    return False


def outline(labels: Labels) -> set[tuple[int, int]]:
    found = set()
    for row, column in np.argwhere(labels != VOID):
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= r < labels.shape[0] and 0 <= c < labels.shape[1]
            if not inside or labels[r, c] not in (VOID, labels[row, column]):
                found.add((int(row), int(column)))
    return found


def slow(truth: Labels, preds: Labels) -> NDArray[np.int64]:
    preds = np.where(truth == VOID, VOID, preds)
    width = max(1, round(0.02 * np.hypot(*truth.shape)))
    counts = np.zeros((boundary.ROWS, CLASSES), dtype=int)
    for row, column in np.argwhere(truth != VOID):
        true, pred = truth[row, column], preds[row, column]
        in_true = other_within(truth, row, column, width, outside=True)
        in_pred = other_within(preds, row, column, width, outside=True)
        counts[0, true] += in_true and in_pred and true == pred
        counts[1, pred] += in_pred
        counts[2, true] += in_true
        for place, radius in enumerate(boundary.WIDTHS):
            if other_within(truth, row, column, radius, outside=False):
                counts[3 + 3 * place, true] += true == pred
                counts[4 + 3 * place, pred] += 1
                counts[5 + 3 * place, true] += 1
    outlines = outline(truth), outline(preds)
    for first, (own, others, mine, theirs) in ((15, (*outlines, truth, preds)), (17, (*outlines[::-1], preds, truth))):
        for row, column in own:
            label = mine[row, column]
            counts[first, label] += 1
            near = any(
                theirs[r, c] == label and (r - row) ** 2 + (c - column) ** 2 <= boundary.TOLERANCE**2 for r, c in others
            )
            counts[first + 1, label] += near
    return counts


@pytest.mark.parametrize("seed", [0, 1])
def test_counts_are_those_of_a_slow_loop(seed: int) -> None:
    truth, preds = sample(seed)
    assert (truth == VOID).any()
    np.testing.assert_array_equal(counted(truth, preds), slow(truth, preds))


def test_images_smaller_than_every_width() -> None:
    rng = np.random.default_rng(3)
    for size in ((1, 1), (1, 5), (4, 2), (3, 3)):
        truth, preds = rng.integers(0, CLASSES, (2, *size))
        np.testing.assert_array_equal(counted(truth, preds), slow(truth, preds))


def test_void_pixels_have_no_say() -> None:
    truth, preds = sample(5)
    changed = np.where(truth == VOID, (preds + 1) % CLASSES, preds)
    np.testing.assert_array_equal(counted(truth, changed), counted(truth, preds))
    assert not counted(np.full_like(truth, VOID), preds).any()


def test_a_perfect_prediction_has_nothing_but_ones() -> None:
    truth, _ = sample(6)
    counts = counted(truth, np.where(truth == VOID, 0, truth))[None]
    for values in (
        boundary.boundary_class_iou(counts),
        boundary.surface_agreement(counts),
        *(boundary.trimap_class_iou(counts, width) for width in boundary.WIDTHS),
    ):
        np.testing.assert_array_equal(values, 1)


def test_boundary_iou_is_that_of_eroded_masks() -> None:
    cv2 = pytest.importorskip("cv2", reason="erodes with OpenCV, as the published code of Boundary IoU")
    truth, preds = sample(7, void=False)
    width = max(1, round(0.02 * np.hypot(*truth.shape)))

    def band(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        padded = np.pad(mask.astype(np.uint8), 1)
        return mask & (cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1] == 0)

    expected = []
    for label in range(CLASSES):
        true, pred = band(truth == label), band(preds == label)
        expected.append((true & pred).sum() / (true | pred).sum())
    np.testing.assert_allclose(boundary.boundary_class_iou(counted(truth, preds)[None]), expected)


def test_trimaps_are_chessboard_distances_to_another_class() -> None:
    truth, preds = sample(8, void=False)
    distance = np.zeros(truth.shape)
    for label in range(CLASSES):
        inside = truth == label
        distance[inside] = ndimage.distance_transform_cdt(inside, "chessboard")[inside]
    for width in boundary.WIDTHS:
        near = distance <= width
        expected = [
            ((truth == k) & (preds == k) & near).sum() / (((truth == k) | (preds == k)) & near).sum()
            for k in range(CLASSES)
        ]
        np.testing.assert_allclose(boundary.trimap_class_iou(counted(truth, preds)[None], width), expected)
    with pytest.raises(ValueError, match="1, 3, 5, 10 pixels wide, got 2"):
        boundary.trimap(counted(truth, preds)[None], 2)


def test_surface_agreement_is_that_of_distance_transforms() -> None:
    truth, preds = sample(9, void=False)
    expected = []
    for label in range(CLASSES):
        edges = [m & ~ndimage.binary_erosion(m) for m in (truth == label, preds == label)]
        far = [ndimage.distance_transform_edt(~edge) for edge in edges]
        near = (far[1][edges[0]] <= boundary.TOLERANCE).sum() + (far[0][edges[1]] <= boundary.TOLERANCE).sum()
        expected.append(near / (edges[0].sum() + edges[1].sum()))
    np.testing.assert_allclose(boundary.surface_agreement(counted(truth, preds)[None]), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI uses its own old argument
def test_surface_agreement_is_that_of_monai() -> None:
    metrics = pytest.importorskip("monai.metrics", reason="compares with MONAI")
    truth, preds = sample(10, void=False)
    onehot = [torch.from_numpy(np.stack([own == k for k in range(CLASSES)])[None]).float() for own in (preds, truth)]
    theirs = metrics.compute_surface_dice(
        *onehot, class_thresholds=[boundary.TOLERANCE] * CLASSES, include_background=True
    )
    np.testing.assert_allclose(boundary.surface_agreement(counted(truth, preds)[None]), theirs[0], rtol=1e-5)


def test_surface_agreement_is_near_to_that_of_measured_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    surface = pytest.importorskip("surface_distance", reason="compares with DeepMind's surface-distance")
    truth, preds = sample(11, void=False)
    ours = boundary.surface_agreement(counted(truth, preds)[None])
    for name in ("filters", "morphology"):  # it calls names that SciPy has deprecated
        monkeypatch.setattr(ndimage, name, ndimage)
    for label in range(CLASSES):
        masks = [np.pad(own == label, 1) for own in (truth, preds)]
        distances = surface.compute_surface_distances(*masks, spacing_mm=(1, 1))
        theirs = surface.compute_surface_dice_at_tolerance(distances, tolerance_mm=boundary.TOLERANCE)
        assert ours[label] == pytest.approx(theirs, abs=0.05)
