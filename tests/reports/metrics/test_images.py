"""Metrics of single images and of classes, against slow loops, numpy, scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest

from segbench.reports.metrics import images
from segbench.reports.metrics.registry import measured, metric
from segbench.reports.metrics.tallied import Tallied

CLASSES, IMAGES = 4, 23


@pytest.fixture(scope="module")
def label_maps() -> tuple[np.ndarray, np.ndarray]:
    """Truths and predictions (N, P): not every image holds every class, and one class is in no truth."""
    rng = np.random.default_rng(0)
    truths = np.stack([rng.choice(rng.choice(3, rng.integers(1, 4), replace=False), 40) for _ in range(IMAGES)])
    wrong = rng.random((IMAGES, 40)) < rng.random((IMAGES, 1))
    return truths, np.where(wrong, rng.integers(0, CLASSES, (IMAGES, 40)), truths)


@pytest.fixture(scope="module")
def counts(label_maps) -> np.ndarray:
    truths, preds = label_maps
    rows = [
        [
            [(p == t)[t == k].sum() for k in range(CLASSES)],
            np.bincount(p, minlength=CLASSES),
            np.bincount(t, minlength=CLASSES),
        ]
        for t, p in zip(truths, preds, strict=True)
    ]
    return np.array(rows)


def slow(truth: np.ndarray, preds: np.ndarray) -> dict[int, float]:
    """Return the IoU of each class that the truth of an image holds."""
    found = {}
    for label in set(truth.tolist()):
        both = sum(t == label and p == label for t, p in zip(truth, preds, strict=True))
        either = sum(t == label or p == label for t, p in zip(truth, preds, strict=True))
        found[label] = both / either
    return found


def test_metrics_of_images_are_those_of_slow_loops(label_maps, counts) -> None:
    by_image = [slow(t, p) for t, p in zip(*label_maps, strict=True)]
    means = [sum(own.values()) / len(own) for own in by_image]
    by_class = [[own[k] for own in by_image if k in own] for k in range(3)]
    found = measured(Tallied(counts, "skip"))
    assert found["image_iou"] == pytest.approx(100 * np.mean(means))
    assert found["class_image_iou"] == pytest.approx(100 * np.mean([np.mean(own) for own in by_class]))
    assert found["p5_image_iou"] == pytest.approx(100 * np.percentile(means, 5))
    assert found["worst_image_iou"] == pytest.approx(100 * min(means))
    assert found["images_under.50"] == pytest.approx(100 * np.mean([m < 0.5 for m in means]))
    assert metric("images_under.30").of(Tallied(counts, "skip")) == pytest.approx(
        100 * np.mean([m < 0.3 for m in means])
    )
    # As published: a share of the images, rounded down, and at least one.
    assert found["worst5_image_iou"] == pytest.approx(100 * sorted(means)[0])
    assert metric("worst30_image_iou").of(Tallied(counts, "skip")) == pytest.approx(100 * np.mean(sorted(means)[:6]))
    worst = [np.mean(sorted(own)[: max(1, int(0.3 * len(own)))]) for own in by_class]
    assert metric("worst30_class_image_iou").of(Tallied(counts, "skip")) == pytest.approx(100 * np.mean(worst))
    np.testing.assert_allclose(images.image_iou(counts), means)


def test_metrics_of_classes_are_those_of_scikit_learn(label_maps, counts) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    truth, preds = (own.ravel() for own in label_maps)
    iou = sklearn.jaccard_score(truth, preds, average=None, labels=range(CLASSES), zero_division=0)
    tallied, names = Tallied(counts, "skip"), ["a", "b.c", "person", "nothing"]
    found = measured(tallied)
    assert found["miou"] == pytest.approx(100 * iou.mean())
    assert found["worst_class_iou"] == pytest.approx(100 * iou.min())
    assert found["aacc"] == pytest.approx(100 * sklearn.accuracy_score(truth, preds))
    assert found["macc"] == pytest.approx(100 * sklearn.recall_score(truth, preds, average="macro", labels=[0, 1, 2]))
    assert metric("person.iou", names).on(tallied) == pytest.approx(100 * iou[2])
    recalls = sklearn.recall_score(truth, preds, average=None, labels=[0, 1, 2])
    assert metric("b.c.acc", names).on(tallied) == pytest.approx(100 * recalls[1])
    assert metric("nothing.acc", names).on(tallied) is None


@pytest.mark.slow
def test_the_mean_over_images_is_that_of_torchmetrics(label_maps, counts) -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification", reason="compares with torchmetrics")
    torch = pytest.importorskip("torch", reason="torchmetrics needs torch")
    means = []
    for truth, preds in zip(*map(torch.from_numpy, label_maps), strict=True):
        iou = torchmetrics.multiclass_jaccard_index(preds, truth, num_classes=CLASSES, average="none")
        means.append(float(iou[truth.unique()].mean()))
    assert measured(Tallied(counts, "skip"))["image_iou"] == pytest.approx(100 * np.mean(means), abs=1e-4)


def test_images_that_are_void_count_nowhere(counts) -> None:
    with_void = np.concatenate([counts, np.zeros_like(counts[:3])])
    assert measured(Tallied(with_void, "skip")) == measured(Tallied(counts, "skip"))
    assert set(measured(Tallied(np.zeros_like(counts), "skip")).values()) == {None}
