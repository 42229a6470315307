"""Confidence bins and what follows from them, against slow loops, torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from segbench.evaluation.confidence import bins_of, confidence_bins
from segbench.reports.metrics import confidence

VOID = 255


def predicted(seed: int, *, sharpness: float = 2.0, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities, labels and a truth with void of one image; the truth follows the probabilities somewhat."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, sharpness, (classes, 17, 23))).float()
    probabilities = logits.softmax(0)
    truth = torch.from_numpy(rng.integers(0, classes, (17, 23)))
    preds = logits.argmax(0)
    agree = torch.from_numpy(rng.random((17, 23)) < 0.6)
    truth = torch.where(agree, preds, truth)
    truth[torch.from_numpy(rng.random((17, 23)) < 0.2)] = VOID
    return probabilities, preds, truth


def binned(probabilities: Tensor, preds: Tensor, truth: Tensor) -> np.ndarray:
    return confidence_bins(probabilities[None], preds[None], truth[None], VOID)[0].numpy()


def counted(*seeds: int, sharpness: float = 2.0) -> np.ndarray:
    return np.stack([binned(*predicted(seed, sharpness=sharpness)) for seed in seeds])


def pixels(*seeds: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the probabilities (P, C), labels and truth of all valid pixels."""
    rows = []
    for seed in seeds:
        probabilities, preds, truth = predicted(seed, sharpness=sharpness)
        valid = truth != VOID
        rows.append((probabilities[:, valid].T.numpy(), preds[valid].numpy(), truth[valid].numpy()))
    probabilities, preds, truth = (np.concatenate(column) for column in zip(*rows, strict=True))
    return probabilities, preds, truth


def test_bins_are_those_of_a_slow_loop() -> None:
    probabilities, preds, truth = predicted(0)
    expected = np.zeros((4, confidence.BINS))
    edges = confidence.EDGES.astype(np.float32)
    for row in range(truth.shape[0]):
        for column in range(truth.shape[1]):
            true = int(truth[row, column])
            if true == VOID:
                continue
            own = probabilities[:, row, column].double().numpy()
            top = float(own.max())
            place = sum(top >= edge for edge in edges)
            wanted = np.eye(4)[true]
            expected[:, place] += 1, int(own.argmax() == true), top, ((own - wanted) ** 2).sum()
    np.testing.assert_allclose(binned(probabilities, preds, truth), expected, atol=1e-5)


def test_void_pixels_have_no_say() -> None:
    probabilities, preds, truth = predicted(1)
    before = binned(probabilities, preds, truth)
    void = truth == VOID
    probabilities[:, void] = torch.eye(4)[:, :1]
    np.testing.assert_array_equal(binned(probabilities, probabilities.argmax(0), truth), before)
    assert not binned(probabilities, preds, torch.full_like(truth, VOID)).any()


def test_the_order_of_pixels_does_not_change_a_bit() -> None:
    probabilities, preds, truth = predicted(2)
    order = torch.randperm(truth.numel(), generator=torch.Generator().manual_seed(0))
    mixed = [own.flatten(-2)[..., order].view(own.shape) for own in (probabilities, preds, truth)]
    np.testing.assert_array_equal(binned(*mixed), binned(probabilities, preds, truth))


def test_bins_are_20_for_calibration_and_finer_at_the_top() -> None:
    edges = confidence.EDGES
    assert confidence.BINS == 40
    np.testing.assert_allclose(edges[:19], np.arange(1, 20) / 20)
    assert (np.diff(edges) > 0).all()
    assert 1 - edges[-1] == pytest.approx(0.05 / 2**20)
    folded = confidence.reliability(counted(0, 1))
    assert folded.shape == (3, 20)
    assert folded[0].sum() == counted(0, 1)[:, 0].sum()


def test_bins_are_those_of_a_search_among_the_edges_however_near_a_confidence_is_to_one() -> None:
    edges = confidence.EDGES.astype(np.float32)
    near = edges.view(np.int32)[:, None] + np.arange(-500, 501)  # the next numbers below and above, one by one
    rng = np.random.default_rng(0)
    some = np.concatenate([[0, 0.5, 1, 1 + 2**-23], rng.random(10_000), 1 - rng.random(10_000) ** 8 / 20])
    confidences = np.concatenate([near.ravel().astype(np.int32).view(np.float32), some.astype(np.float32)])
    expected = np.searchsorted(edges, confidences, side="right")
    np.testing.assert_array_equal(bins_of(torch.from_numpy(confidences)), expected)
    assert 0 <= int(bins_of(torch.tensor(float("nan")))) < confidence.BINS


@pytest.mark.slow
def test_calibration_errors_are_those_of_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification", reason="compares with torchmetrics")
    probabilities, _, truth = pixels(0, 1, 2)
    counts = counted(0, 1, 2)
    for norm, own in (("l1", confidence.ece), ("max", confidence.mce)):
        theirs = functional.multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=4, n_bins=20, norm=norm
        )
        assert own(counts) == pytest.approx(float(theirs), abs=1e-5)


def test_calibration_errors_and_brier_are_those_of_a_slow_loop() -> None:
    probabilities, preds, truth = pixels(3, 4)
    counts = counted(3, 4)
    top = probabilities.max(1)
    gaps, shares = [], []
    for k in range(20):
        inside = (np.minimum((top * 20).astype(int), 19)) == k
        if inside.any():
            gaps.append(abs((preds == truth)[inside].mean() - top[inside].mean()))
            shares.append(inside.mean())
    assert confidence.ece(counts) == pytest.approx(np.dot(gaps, shares), abs=1e-6)
    assert confidence.mce(counts) == pytest.approx(max(gaps), abs=1e-6)
    brier = np.mean([((p - np.eye(4)[t]) ** 2).sum() for p, t in zip(probabilities, truth, strict=True)])
    assert confidence.brier(counts) == pytest.approx(brier, abs=1e-6)


def test_a_network_that_knows_how_often_it_is_right_has_no_calibration_error() -> None:
    counts = np.zeros((1, 4, 40))
    counts[0, :3, 10] = 1000, 525, 525
    counts[0, :3, 30] = 1000, 980, 980
    assert confidence.ece(counts) == 0
    assert confidence.mce(counts) == 0
    counts[0, 1, 10] = 425
    assert confidence.ece(counts) == pytest.approx(0.05)
    assert confidence.mce(counts) == pytest.approx(0.1)


def test_ranking_is_that_of_scikit_learn_where_pixels_of_a_bin_are_equally_confident() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    probabilities, preds, truth = pixels(0, 1, sharpness=6)
    counts = counted(0, 1, sharpness=6)
    place = np.digitize(probabilities.max(1), confidence.EDGES.astype(np.float32))
    theirs = metrics.roc_auc_score(preds == truth, place)
    assert confidence.auroc_error(counts) == pytest.approx(theirs, abs=1e-9)
    exact = probabilities.astype(float)
    exact /= exact.sum(1, keepdims=True)
    brier = metrics.brier_score_loss(truth, exact, scale_by_half=False, labels=range(4))
    assert confidence.brier(counts) == pytest.approx(brier, abs=1e-5)


def test_fine_bins_lose_little_of_the_order_of_pixels() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    probabilities, preds, truth = pixels(*range(6), sharpness=8)
    exact = metrics.roc_auc_score(preds == truth, probabilities.max(1).astype(float))
    assert confidence.auroc_error(counted(*range(6), sharpness=8)) == pytest.approx(exact, abs=0.01)


def test_the_risk_coverage_area_is_the_mean_over_orders_of_equally_confident_pixels() -> None:
    counts = np.zeros((1, 4, 40))
    counts[0, :2, 39] = 3, 2
    counts[0, :2, 25] = 4, 1
    counts[0, :2, 7] = 1, 0
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(20_000):
        wrong = np.concatenate([rng.permutation([0, 0, 1]), rng.permutation([0, 1, 1, 1]), [1]])
        areas.append((np.cumsum(wrong) / np.arange(1, 9)).mean())
    assert confidence.aurc(counts) == pytest.approx(np.mean(areas), abs=0.003)


def test_without_pixels_there_is_no_value() -> None:
    for of in (confidence.ece, confidence.mce, confidence.brier, confidence.auroc_error, confidence.aurc):
        assert np.isnan(of(np.zeros((2, 4, 40))))
