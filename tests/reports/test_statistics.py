"""The bootstrap against a slow one and against its own coverage, and what it says of few images."""

import numpy as np
import pytest

from segbench.reports.statistics import (
    FEWEST_OF_CLASS,
    different_draws,
    draws,
    few_images,
    interval,
    mean_iou,
    resampled,
)


def random_counts(rng: np.random.Generator, images: int, classes: int = 4, quality: float = 0.7) -> np.ndarray:
    true = rng.integers(50, 500, size=(images, classes))
    inter = rng.binomial(true, np.clip(rng.normal(quality, 0.15, size=(images, 1)), 0, 1))
    predicted = inter + rng.integers(0, 100, size=(images, classes))
    return np.stack([inter, predicted, true], axis=1)


def same_truth(rng: np.random.Generator, counts: np.ndarray, shift: float) -> np.ndarray:
    inter = np.clip(counts[:, 0] + np.rint(shift * counts[:, 2]).astype(int), 0, counts[:, 2])
    return np.stack([inter, inter + rng.integers(0, 100, size=inter.shape), counts[:, 2]], axis=1)


def test_interval_equals_a_slow_bootstrap() -> None:
    counts = random_counts(np.random.default_rng(0), 40)
    got = interval(counts, "skip")
    rng = np.random.default_rng(99)
    slow = [100 * mean_iou(counts[rng.integers(40, size=40)].sum(0), "skip") for _ in range(2000)]
    assert got.value == pytest.approx(100 * mean_iou(counts.sum(0), "skip"))
    assert got.low == pytest.approx(np.percentile(slow, 2.5), abs=0.4)
    assert got.high == pytest.approx(np.percentile(slow, 97.5), abs=0.4)


def test_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    world = random_counts(rng, 20_000)
    truth = 100 * mean_iou(world.sum(0), "skip")
    hits = 0
    for _ in range(200):
        got = interval(world[rng.integers(len(world), size=80)], "skip")
        hits += got.low <= truth <= got.high
    assert 0.89 <= hits / 200 <= 0.99


def test_same_seed_same_interval_and_repeated_runs_change_nothing() -> None:
    counts = random_counts(np.random.default_rng(2), 30)
    assert interval(counts, "zero") == interval(counts, "zero")
    twice = interval(np.stack([counts, counts]), "zero")
    assert twice.value == pytest.approx(interval(counts, "zero").value)
    assert twice.low == pytest.approx(interval(counts, "zero").low, abs=0.5)


def test_spread_between_runs_widens_the_interval() -> None:
    rng = np.random.default_rng(3)
    good = random_counts(rng, 60, quality=0.8)
    bad = same_truth(rng, good, -0.3)
    one = interval(good, "skip")
    two = interval(np.stack([good, bad]), "skip")
    assert two.high - two.low > 2 * (one.high - one.low)


def test_a_class_absent_from_a_sample_is_skipped_in_that_sample() -> None:
    counts = np.zeros((2, 3, 2), dtype=np.int64)
    counts[0, :, 0] = 10  # the first image holds class 0 alone, all right
    counts[1, :, 1] = 10  # the second class 1 alone, all right
    assert interval(counts, "skip") == (100, 100, 100)
    assert interval(counts, "zero").low == 50


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3, C\)"):
        interval(np.zeros((0, 3, 4), dtype=np.int64), "skip")


def in_few(images: int) -> np.ndarray:
    counts = random_counts(np.random.default_rng(9), 40, classes=3)
    counts[images:, :, 2] = 0
    return counts


def test_a_class_in_few_images_is_named() -> None:
    said = few_images(in_few(FEWEST_OF_CLASS - 1), ("road", "sky", "pole"), "skip")
    assert said.startswith(f"1 of 3 classes are in fewer than {FEWEST_OF_CLASS} of the 40 images: pole (14).")
    assert "conditional on these images" in said
    assert few_images(in_few(FEWEST_OF_CLASS), ("road", "sky", "pole"), "skip") == ""


def test_a_class_in_no_image_is_few_unless_it_counts_zero_anyway() -> None:
    assert "pole (0)" in few_images(in_few(0), ("road", "sky", "pole"), "skip")
    assert few_images(in_few(0), ("road", "sky", "pole"), "zero") == ""


def rare_classes(rng: np.random.Generator, images: int, share: float, classes: int = 20) -> np.ndarray:
    """A background in every image, and each class in a share of them; missed pixels become other classes."""
    true = np.where(rng.random((images, classes)) < share, np.exp(rng.normal(8, 1, (images, classes))), 0).astype(int)
    quality = rng.beta(4, 1.2, (images, classes)) * (rng.random((images, classes)) > 0.1)
    right = np.rint(true * quality).astype(int)
    missed = np.zeros((images, classes + 1), dtype=int)
    to = np.where(rng.random((images, classes)) < 0.5, 0, rng.integers(0, classes + 1, (images, classes)))
    for index in range(classes):
        np.add.at(missed, (np.arange(images), to[:, index]), (true - right)[:, index])
    background = np.full((images, 1), 60_000)
    right, true = np.hstack([background * 95 // 100, right]), np.hstack([background, true])
    return np.stack([right, right + missed, true], axis=1)


@pytest.mark.slow
def test_the_interval_covers_other_images_once_every_class_is_in_enough_of_them() -> None:
    rng = np.random.default_rng(0)
    world = rare_classes(rng, 40_000, 0.07)
    truth = 100 * mean_iou(world.sum(0), "skip")

    def covered(images: int) -> float:
        found = [interval(world[rng.integers(len(world), size=images)], "skip") for _ in range(150)]
        return float(np.mean([own.low <= truth <= own.high for own in found]))

    assert covered(25) < 0.8
    assert covered(round(FEWEST_OF_CLASS / 0.07)) >= 0.9


@pytest.mark.parametrize("images", [1, 4, 8, 9, 30])
def test_samples_that_are_the_same_are_counted_as_often_as_they_are_drawn(images: int) -> None:
    plain = np.concatenate(list(draws(images, 1000)))
    again = np.concatenate([weights[places] for weights, places in different_draws(images, 1000)])
    assert np.array_equal(again, plain)
    counts = random_counts(np.random.default_rng(images), images)
    each = [mean_iou(np.repeat(counts, times.astype(int), 0).sum(0), "skip") for times in plain]
    assert np.array_equal(resampled(counts[None], "skip", 1000)[0], np.array(each))
