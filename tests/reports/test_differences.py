"""Differences between means over runs: against the null, with training noise, with few images, and in transfers."""

import numpy as np
import pytest
from scipy import stats

from segbench.reports.differences import Runs, interval_over_runs, paired_bootstrap, runs_of
from segbench.reports.statistics import interval, mean_iou


def random_counts(rng: np.random.Generator, images: int, classes: int = 4, quality: float = 0.7) -> np.ndarray:
    true = rng.integers(50, 500, size=(images, classes))
    inter = rng.binomial(true, np.clip(rng.normal(quality, 0.15, size=(images, 1)), 0, 1))
    predicted = inter + rng.integers(0, 100, size=(images, classes))
    return np.stack([inter, predicted, true], axis=1)


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


@pytest.mark.parametrize(("images", "p"), [(1, 1.0), (4, 1.0), (11, 1.0), (12, 2 / 1001)])
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
    assert paired_bootstrap(a, a, "skip") == (0, 0, 0, 1, 1)


def test_other_images_cannot_be_paired() -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap(random_counts(rng, 10), random_counts(rng, 10), "skip")


def trained(
    rng: np.random.Generator, true: np.ndarray, difficulty: np.ndarray, noise: np.ndarray, runs: int
) -> np.ndarray:
    """Counts of some trainings of one method: each has a quality of its own, and its own good and bad images."""
    own = 0.7 + noise.reshape(runs, 1, 1) + difficulty + rng.normal(0, 0.03, size=(runs, *true.shape))
    right = np.rint(true * np.clip(own, 0, 1)).astype(int)
    return np.stack([right, right + (true - right) // 2, np.broadcast_to(true, right.shape)], axis=2)


def equal_methods(rng: np.random.Generator, runs: int, images: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    true = rng.integers(100, 900, size=(images, 4))
    difficulty = rng.normal(0, 0.1, size=(images, 1)) + rng.normal(0, 0.03, size=(images, 4))
    made = [trained(rng, true, difficulty, rng.normal(0, noise, size=runs), runs) for _ in range(2)]
    return made[0], made[1]


def false_rate(runs: int, images: int, noise: float, worlds: int) -> float:
    """Share of worlds of two equal methods in which a difference of methods is claimed."""
    rng = np.random.default_rng([runs, images, round(1000 * noise)])
    found = [paired_bootstrap(*equal_methods(rng, runs, images, noise), "skip", resamples=100) for _ in range(worlds)]
    return float(np.mean([own.p < 0.05 and own.runs > 1 for own in found]))


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_equal_methods_are_seldom_told_apart_whatever_the_noise_of_training(runs: int, noise: float) -> None:
    rates = [false_rate(runs, images, noise, 200) for images in (12, 40, 150)]
    assert np.mean(rates) <= 0.06
    assert max(rates) <= 0.085  # of 200 worlds; a rate of 0.05 comes out higher once in sixty


def test_the_noise_of_training_counts() -> None:
    assert false_rate(2, 40, 0.05, 60) <= 0.1
    rng = np.random.default_rng(0)
    ones = [paired_bootstrap(*equal_methods(rng, 1, 40, 0.05), "skip", resamples=100) for _ in range(60)]
    assert np.mean([own.p < 0.05 for own in ones]) > 0.5  # the networks differ, the methods do not
    assert {own.runs for own in ones} == {1}


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ((700, 720, 760), (600, 640, 615), False),
        ((700, 720, 760), (600, 640, 610, 650), False),
        ((700, 760, 640, 690, 740), (640, 660), True),  # Welch's degrees of freedom rest on two runs that agree
    ],
)
def test_without_spread_over_images_it_is_the_less_sure_of_two_t_tests(
    a: tuple[int, ...], b: tuple[int, ...], alike: bool
) -> None:
    true = np.full((20, 1), 1000)

    def runs(rights: tuple[int, ...]) -> np.ndarray:
        return np.stack([np.stack([np.full_like(true, right), true, true], 1) for right in rights])

    values = [[100 * float(mean_iou(run.sum(0), "skip")) for run in runs(side)] for side in (a, b)]
    expected = stats.ttest_ind(*values, equal_var=alike)
    got = paired_bootstrap(runs(a), runs(b), "skip")
    assert got.p == pytest.approx(expected.pvalue)
    assert (got.low, got.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert got.p >= stats.ttest_ind(*values, equal_var=not alike).pvalue
    assert got.runs == min(len(a), len(b))


def test_a_clear_lead_of_several_runs_is_found() -> None:
    rng = np.random.default_rng(1)
    a, b = equal_methods(rng, 3, 40, 0.005)
    b[:, :, 0] = b[:, :, 0] * 8 // 10
    assert paired_bootstrap(a, b, "skip").p < 0.01


@pytest.mark.parametrize("images", [3, 6, 8])
def test_the_interval_of_few_images_is_wide_enough(images: int) -> None:
    rng = np.random.default_rng(images)
    misses = 0
    for _ in range(200):
        got = paired_bootstrap(*equal_methods(rng, 1, images, 0.0), "skip", resamples=200)
        misses += not got.low <= 0 <= got.high
    assert misses / 200 <= 0.08  # a plain percentile interval misses in 18 % of cases with 6 images


def test_one_checkpoint_under_several_seeds_is_one_training(one, net) -> None:
    records = [one(net("pspnet", "sat", seed)) for seed in range(3)]
    same = [
        record.model_copy(update={"target": record.target.model_copy(update={"weights_sha256": "w"})})
        for record in records
    ]
    counts = np.repeat(random_counts(np.random.default_rng(0), 20)[None], 3, axis=0)
    assert len(set(runs_of(counts, records).targets)) == 3
    assert set(runs_of(counts, same).targets) == {"w"}
    lower = counts.copy()
    lower[:, :, 0] = lower[:, :, 0] * 9 // 10
    assert paired_bootstrap(runs_of(counts, same), runs_of(lower, same), "skip").runs == 1


def crossed(rng: np.random.Generator, targets: int, sources: int, images: int) -> tuple[Runs, Runs]:
    """Two equal methods whose trainings are all attacked through the same sources, which suit one method by chance."""
    true = rng.integers(100, 900, size=(images, 3))
    difficulty = rng.normal(0, 0.1, size=(images, 1))
    sides = []
    for side in "ab":
        of_target = rng.normal(0, 0.02, size=(targets, 1))
        of_source = rng.normal(0, 0.05, size=(1, sources))
        noise = (of_target + of_source).ravel()
        names = [(f"{side}{t}", f"s{s}") for t in range(targets) for s in range(sources)]
        counts = trained(rng, true, difficulty, noise, len(noise))
        sides.append(Runs(counts, tuple(t for t, _ in names), tuple(s for _, s in names)))
    return sides[0], sides[1]


def test_pairs_that_share_a_source_are_not_independent() -> None:
    rng = np.random.default_rng(2)
    worlds = [crossed(rng, 3, 3, 30) for _ in range(80)]
    right = [paired_bootstrap(a, b, "skip", resamples=100) for a, b in worlds]
    assert np.mean([own.p < 0.05 for own in right]) <= 0.08
    as_if = [paired_bootstrap(a.counts, b.counts, "skip", resamples=100) for a, b in worlds]
    assert np.mean([own.p < 0.05 for own in as_if]) > 0.2
    assert {own.runs for own in right} == {3}
    one_source = [paired_bootstrap(*crossed(rng, 3, 1, 30), "skip", resamples=100) for _ in range(3)]
    assert {own.runs for own in one_source} == {1}


def test_an_interval_over_runs_covers_the_method_and_not_only_these_trainings() -> None:
    rng = np.random.default_rng(3)
    true = rng.integers(100, 900, size=(40, 3))
    difficulty = np.zeros((40, 1))
    truth = float(
        np.mean([interval(trained(rng, true, difficulty, np.zeros(1), 1)[0], "skip").value for _ in range(5)])
    )
    hits = plain = 0
    for _ in range(60):
        counts = trained(rng, true, difficulty, rng.normal(0, 0.05, size=3), 3)
        names = ("0", "1", "2")
        found, narrow = interval_over_runs(Runs(counts, names, names), "skip"), interval(counts, "skip")
        hits += found.low <= truth <= found.high
        plain += narrow.low <= truth <= narrow.high
    assert hits / 60 >= 0.91 > plain / 60
