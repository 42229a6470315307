"""The bootstrap against a slow one, against its own coverage, and its p-value against the null."""

import numpy as np
import pytest

from segbench.reports.statistics import interval, mean_iou, paired_bootstrap


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


def test_pairing_finds_a_small_difference_that_is_the_same_on_every_image() -> None:
    rng = np.random.default_rng(4)
    a = random_counts(rng, 60)
    b = a.copy()
    b[:, 0] -= 1
    got = paired_bootstrap(a, b, "skip")
    alone = interval(a, "skip")
    assert 0 < got.low < got.value < got.high
    assert got.high - got.low < (alone.high - alone.low) / 5
    assert got.p == pytest.approx(2 / 1001)
    back = paired_bootstrap(b, a, "skip")
    assert (back.value, back.low, back.high) == pytest.approx((-got.value, -got.high, -got.low))


@pytest.mark.parametrize(("images", "p"), [(1, 1.0), (4, 0.125), (12, 2 / 1001)])
def test_few_images_prove_little_however_alike_they_are(images: int, p: float) -> None:
    a = np.repeat(random_counts(np.random.default_rng(8), 1), images, axis=0)
    b = a.copy()
    b[:, 0] -= 1
    assert paired_bootstrap(a, b, "skip").p == pytest.approx(p)


def test_p_is_seldom_small_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(5)
    small = 0
    for _ in range(100):
        a = random_counts(rng, 50)
        noise = rng.integers(-8, 9, size=a[:, 0].shape)
        b, c = a.copy(), a.copy()
        b[:, 0], c[:, 0] = np.clip(a[:, 0] + noise, 0, a[:, 2]), np.clip(a[:, 0] - noise, 0, a[:, 2])
        small += paired_bootstrap(b, c, "skip", resamples=300).p < 0.05
    assert small <= 12


def test_identical_networks_do_not_differ() -> None:
    a = random_counts(np.random.default_rng(6), 10)
    assert paired_bootstrap(a, a, "skip") == (0, 0, 0, 1)


def test_other_images_cannot_be_paired() -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap(random_counts(rng, 10), random_counts(rng, 10), "skip")
    with pytest.raises(ValueError, match=r"\(N, 3, C\)"):
        interval(np.zeros((0, 3, 4), dtype=np.int64), "skip")
