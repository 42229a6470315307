"""Scores against slow references that look at pixels, and the worst case against all choices there are."""

import itertools

import numpy as np
import pytest

from segbench.reports.statistics import image_accuracy, scores
from segbench.reports.worst_case import worst_case

VOID = 255


def count(preds: np.ndarray, masks: np.ndarray, classes: int) -> np.ndarray:
    """Count pixel by pixel, (N, 3, C)."""
    out = np.zeros((len(masks), 3, classes), dtype=np.int64)
    for image, (pred, mask) in enumerate(zip(preds, masks, strict=True)):
        for p, m in zip(pred.ravel(), mask.ravel(), strict=True):
            if m == VOID:
                continue
            out[image, 0, m] += p == m
            out[image, 1, p] += 1
            out[image, 2, m] += 1
    return out


def scene(seed: int, *, images: int = 6, classes: int = 5, attacks: int = 1, absent: int | None = None):
    """Random masks with void pixels and predictions that are right more often than not; `absent` never occurs."""
    rng = np.random.default_rng(seed)
    labels = [c for c in range(classes) if c != absent]
    masks = rng.choice(labels, size=(images, 4, 5))
    guesses = [rng.choice(labels, size=masks.shape) for _ in range(attacks)]
    preds = [np.where(rng.random(masks.shape) < 0.6, masks, guess) for guess in guesses]
    masks[rng.random(masks.shape) < 0.1] = VOID
    preds = [np.where(masks == VOID, rng.choice(labels, size=masks.shape), p) for p in preds]
    return masks, preds


def slow_miou(preds: np.ndarray, masks: np.ndarray, classes: int, absent: str) -> float:
    values = []
    for c in range(classes):
        valid = masks != VOID
        inter = ((preds == c) & (masks == c) & valid).sum()
        union = (((preds == c) | (masks == c)) & valid).sum()
        if union:
            values.append(inter / union)
        elif absent == "zero":
            values.append(0.0)
    return 100 * sum(values) / len(values)


@pytest.mark.parametrize("absent", ["skip", "zero"])
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_a_count_over_pixels(seed: int, absent: str) -> None:
    masks, (preds,) = scene(seed, absent=3)
    got = scores(count(preds, masks, 5), absent)
    valid = masks != VOID
    recalls = [(preds[masks == c] == c).mean() for c in range(5) if (masks == c).any()]
    assert got.miou == pytest.approx(slow_miou(preds, masks, 5, absent))
    assert got.aacc == pytest.approx(100 * (preds[valid] == masks[valid]).mean())
    assert got.macc == pytest.approx(100 * sum(recalls) / (len(recalls) if absent == "skip" else 5))
    assert got.class_iou[3] is None
    assert all(got.class_iou[c] is not None for c in (0, 1, 2, 4))


def test_a_class_predicted_but_not_in_the_truth_counts_zero_in_both_conventions() -> None:
    masks, preds = np.zeros((1, 2, 2), int), np.array([[[0, 0], [0, 1]]])
    counts = count(preds, masks, 3)
    assert scores(counts, "skip").miou == pytest.approx(100 * (0.75 + 0) / 2)
    assert scores(counts, "zero").miou == pytest.approx(100 * (0.75 + 0 + 0) / 3)
    assert scores(counts, "skip").class_iou == (75.0, 0.0, None)


def test_scoring_nothing_but_void_is_an_error() -> None:
    with pytest.raises(ValueError, match="void"):
        scores(np.zeros((2, 3, 4), dtype=np.int64), "skip")


def test_perfect_and_wrong_predictions_have_no_spread() -> None:
    masks = np.tile(np.arange(4).reshape(2, 2), (5, 1, 1))
    right = scores(count(masks, masks, 4), "skip")
    wrong = scores(count((masks + 1) % 4, masks, 4), "skip")
    assert (right.miou, right.miou_low, right.miou_high) == (100, 100, 100)
    assert (wrong.miou, wrong.miou_low, wrong.miou_high) == (0, 0, 0)


def test_image_accuracy_counts_valid_pixels_only() -> None:
    masks = np.array([[[0, 1], [VOID, 1]], [[VOID, VOID], [VOID, VOID]]])
    preds = np.array([[[0, 1], [0, 0]], [[0, 0], [0, 0]]])
    np.testing.assert_allclose(image_accuracy(count(preds, masks, 2)), [2 / 3, np.nan])


@pytest.mark.parametrize("absent", ["skip", "zero"])
@pytest.mark.parametrize("seed", range(12))
def test_worst_case_lies_between_its_bound_and_every_single_attack(seed: int, absent: str) -> None:
    classes = 4
    masks, preds = scene(seed, images=5, classes=classes, attacks=3, absent=2 if seed % 3 == 0 else None)
    if seed % 3 == 0:  # a class that is nowhere in the truth, predicted by one attack alone
        preds[1] = np.where(np.random.default_rng(seed).random(preds[1].shape) < 0.1, 2, preds[1])
    counts = [count(p, masks, classes) for p in preds]
    got = worst_case(counts, absent)

    everything = []
    for choice in itertools.product(range(3), repeat=5):
        mixed = np.stack([preds[a][n] for n, a in enumerate(choice)])
        everything.append(slow_miou(mixed, masks, classes, absent))
    true = min(everything)
    single = min(slow_miou(p, masks, classes, absent) for p in preds)
    assert got.miou_bound <= true + 1e-9
    assert true - 1e-9 <= got.miou <= single + 1e-9
    reached = np.stack([preds[a][n] for n, a in enumerate(got.choice)])
    assert got.miou == pytest.approx(slow_miou(reached, masks, classes, absent))

    accuracies = np.array([[(p[n] == masks[n])[masks[n] != VOID].mean() for n in range(5)] for p in preds])
    assert got.image_accuracy == pytest.approx(100 * accuracies.min(0).mean())
    worst = np.stack([preds[a][n] for n, a in enumerate(accuracies.argmin(0))])
    assert got.aacc == pytest.approx(100 * (worst == masks)[masks != VOID].mean())


def test_the_bound_is_the_truth_for_one_foreground_class() -> None:
    """Where one class alone decides, the bound is no bound but the minimum itself."""
    rng = np.random.default_rng(3)
    counts = []
    true = rng.integers(50, 100, size=6)
    for _ in range(3):
        inter = rng.integers(0, true)
        counts.append(np.stack([inter, inter + rng.integers(0, 50, size=6), true], axis=1)[:, :, None])
    least = min(
        sum(counts[a][n, 0, 0] for n, a in enumerate(choice))
        / sum(counts[a][n, 1, 0] + true[n] - counts[a][n, 0, 0] for n, a in enumerate(choice))
        for choice in itertools.product(range(3), repeat=6)
    )
    assert worst_case(counts, "skip").miou_bound == pytest.approx(100 * least, rel=1e-12)


def test_one_attack_is_its_own_worst_case() -> None:
    masks, (preds,) = scene(1)
    counts = count(preds, masks, 5)
    got = worst_case([counts], "skip")
    assert got.miou == pytest.approx(scores(counts, "skip").miou)
    assert got.aacc == pytest.approx(scores(counts, "skip").aacc)


def test_worst_case_refuses_other_images() -> None:
    masks, (preds,) = scene(1)
    counts = count(preds, masks, 5)
    with pytest.raises(ValueError, match="same images"):
        worst_case([counts, counts[::-1]], "skip")
    with pytest.raises(ValueError, match="at least one"):
        worst_case([], "skip")
