"""The registry: every name leads to a metric, and a metric to a sentence and a value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segbench.reports.metrics import boundary, confidence, objects
from segbench.reports.metrics.registry import STANDARD, is_metric, measured, metric
from segbench.reports.metrics.tallied import Tallied, wrong
from segbench.reports.statistics import scores

CLASSES = ("sky", "person", "traffic.light")


def tallied(images: int = 6, seed: int = 0, absent: str = "skip") -> Tallied:
    """Counts of random label maps, whose families agree with each other."""
    rng = np.random.default_rng(seed)
    true = rng.integers(200, 900, (images, 3))
    right = (true * rng.random((images, 3))).astype(int)
    predicted = right + rng.permuted(true - right, axis=1)
    counts = np.stack([right, predicted, true], 1)
    bins = np.zeros((images, confidence.ROWS, confidence.BINS))
    bins[:, 0, 5], bins[:, 0, 38] = true[:, 0], true[:, 1:].sum(1)
    bins[:, 1, 5], bins[:, 1, 38] = right[:, 0], right[:, 1:].sum(1)
    bins[:, 2] = bins[:, 0] * 0.6
    bands = np.repeat((counts // 4)[:, None], 6, 1).reshape(images, 18, 3)
    bands = np.concatenate([bands, bands[:, :1]], 1)
    sizes = np.zeros((images, objects.ROWS, 3))
    sizes[:, 0], sizes[:, 1] = 3, 2
    sizes[:, 2], sizes[:, 3] = true, right
    return Tallied(counts, absent, {"confidence": bins, "boundary": bands, "objects": sizes})


def test_every_standard_metric_is_found_by_its_name_and_says_what_it_is() -> None:
    for own in STANDARD:
        assert metric(own.name) is own
        assert is_metric(own.name)
        assert own.sentence.endswith(".")
        assert own.sentence[0].isupper()
        assert own.family in ("counts", "confidence", "boundary", "objects")
    assert len({own.name for own in STANDARD}) == len({own.heading for own in STANDARD}) == len(STANDARD)


def test_every_standard_metric_is_on_the_page_of_metrics() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    missing = [own.name for own in STANDARD if f"`{own.name}`" not in page]
    assert not missing


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_values_are_in_their_range_and_scores_are_those_of_the_record(absent: str) -> None:
    own = tallied(absent=absent)
    found = measured(own)
    assert list(found) == [metric.name for metric in STANDARD]
    assert all(value is not None for value in found.values())
    for name, value in found.items():
        assert 0 <= value <= (100 if metric(name).per_cent else 2)
    expected = scores(own.counts, absent)
    assert (found["miou"], found["macc"], found["aacc"]) == pytest.approx((expected.miou, expected.macc, expected.aacc))
    assert found["worst_class_iou"] == pytest.approx(min(expected.class_iou))
    assert metric("person.iou", CLASSES).on(own) == pytest.approx(expected.class_iou[1])
    assert metric("traffic.light.iou", CLASSES).on(own) == pytest.approx(expected.class_iou[2])


def test_a_family_that_was_not_tallied_has_no_metric() -> None:
    own = tallied()
    bare = Tallied(own.counts, "skip", {"objects": own.tallies["objects"]})
    assert "ece" not in measured(bare)
    assert "recall.small" in measured(bare)
    assert metric("ece").on(bare) is None
    assert metric("person.boundary_iou", CLASSES).on(bare) is None


def test_unknown_names_are_refused_with_a_guess() -> None:
    with pytest.raises(ValueError, match=r"no metric is called 'eec'; did you mean ece\?"):
        metric("eec")
    with pytest.raises(ValueError, match=r"'persn.iou'; did you mean person.iou\?"):
        metric("persn.iou", CLASSES)
    with pytest.raises(ValueError, match="there are miou, macc"):
        metric("zzzzzzzz")
    for name in ("images_under.0", "images_under.101", "p0_image_iou", "images_under.-3", "p5", "", "."):
        with pytest.raises(ValueError, match="no metric is called"):
            metric(name, CLASSES)
    assert is_metric("anything.iou")
    assert not is_metric("images_under.1000")


def test_a_chosen_sample_of_images_has_the_counts_of_these_images() -> None:
    own = tallied()
    twice = own.take(np.array([0, 0, 4]))
    assert twice.counts.shape == (3, 3, 3)
    assert all(len(array) == 3 for array in twice.tallies.values())
    for name in ("miou", "ece", "boundary_iou", "recall.small"):
        assert metric(name).on(own.take(np.arange(6))) == pytest.approx(metric(name).on(own))
        assert metric(name).on(own.take(np.array([2, 2]))) == pytest.approx(metric(name).on(own.take(np.array([2]))))


def test_tallies_that_contradict_the_counts_are_noticed() -> None:
    own = tallied()
    assert wrong(own) is None
    for family, place, words in (
        ("confidence", (0, 0, 5), "bins of confidence"),
        ("objects", (1, 3, 2), "objects hold other pixels"),
        ("boundary", (2, 12, 0), "more pixels near boundaries"),
    ):
        changed = {name: array.copy() for name, array in own.tallies.items()}
        changed[family][place] += 5000
        assert words in wrong(Tallied(own.counts, "skip", changed))
    short = {**own.tallies, "boundary": own.tallies["boundary"][:, : boundary.ROWS - 1]}
    assert "shape" in wrong(Tallied(own.counts, "skip", short))
    assert "shape" in wrong(Tallied(own.counts, "skip", {"other": own.counts}))
    negative = {"objects": -own.tallies["objects"]}
    assert "no counts" in wrong(Tallied(own.counts, "skip", negative))
