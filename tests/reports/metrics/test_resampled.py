"""Bootstrap samples of metrics, against a loop that takes the images of each sample."""

import numpy as np
import pytest

from segbench.reports.metrics.registry import STANDARD, metric
from segbench.reports.metrics.resampled import resampled
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.statistics import draws

CLASSES = ("sky", "person", "car")


@pytest.fixture(scope="module")
def tallied() -> Tallied:
    rng = np.random.default_rng(0)
    true = rng.integers([1, 0, 0], 3, (15, 3)) * 50
    right = (true * rng.random((15, 3))).astype(np.int64)
    counts = np.stack([right, right + rng.integers(0, 20, (15, 3)), true], 1)
    bins = rng.integers(1, 50, (15, 4, 40)).astype(float)
    bins[:, 1:] = bins[:, :1] * rng.random((15, 3, 40))
    boundary = np.sort(rng.integers(0, 60, (15, 19, 3)), axis=1)
    objects = np.sort(rng.integers(0, 9, (15, 4, 3)), axis=1)
    return Tallied(counts, "skip", {"confidence": bins, "boundary": boundary, "objects": objects})


NAMES = [*(own.name for own in STANDARD), "person.iou", "car.boundary_iou", "p10_image_iou", "worst20_class_image_iou"]


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_those_of_taken_images(name: str, tallied: Tallied) -> None:
    own = metric(name, CLASSES)
    expected = [
        own.of(tallied.take(np.repeat(np.arange(15), times.astype(int))))
        for weights in draws(15, 20)
        for times in weights
    ]
    np.testing.assert_allclose(resampled(own, tallied, 20), expected)


def test_images_that_are_all_void_give_no_samples() -> None:
    assert not len(resampled(metric("image_iou"), Tallied(np.zeros((3, 3, 2), np.int64), "skip"), 5))
