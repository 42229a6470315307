"""Aggregates over corruptions, against slow loops in numpy over whole arrays and values by hand."""

import numpy as np
import pytest

from segbench.reports import corruptions
from segbench.reports.corruptions import FAMILIES

BENCHMARK = [kind for family, kinds in FAMILIES.items() if family != "held out" for kind in kinds]
KINDS = [*BENCHMARK, *FAMILIES["held out"]]


def drawn(seed: int, top: float) -> np.ndarray:
    """mIoU of 19 kinds at 5 severities."""
    return np.random.default_rng(seed).uniform(5, top, (19, 5))


def by_place(values: np.ndarray) -> dict[tuple[str, int], float]:
    return {(kind, s + 1): float(values[k, s]) for k, kind in enumerate(KINDS) for s in range(5)}


@pytest.fixture
def own() -> np.ndarray:
    return drawn(0, 60)


@pytest.fixture
def reference() -> np.ndarray:
    return drawn(1, 50)


def test_the_benchmark_has_fifteen_kinds_and_four_that_it_holds_out() -> None:
    assert (len(BENCHMARK), len(FAMILIES["held out"]), len(set(KINDS))) == (15, 4, 19)


def test_errors_are_sums_over_severities_divided_and_then_averaged_over_fifteen_kinds(own, reference) -> None:
    ratios = (100 - own[:15]).sum(1) / (100 - reference[:15]).sum(1)
    assert corruptions.mce(by_place(own), by_place(reference)) == pytest.approx(100 * ratios.mean())
    relative = (70 - own[:15]).sum(1) / (65 - reference[:15]).sum(1)
    found = corruptions.relative_mce(by_place(own), 70, by_place(reference), 65)
    assert found == pytest.approx(100 * relative.mean())


def test_the_reference_itself_has_errors_of_a_hundred(reference) -> None:
    values = by_place(reference)
    assert corruptions.mce(values, values) == pytest.approx(100)
    assert corruptions.relative_mce(values, 65, values, 65) == pytest.approx(100)


def test_means_leave_out_what_the_benchmark_holds_out_unless_there_is_nothing_else(own) -> None:
    assert corruptions.mean_corrupted(by_place(own)) == pytest.approx(own[:15].mean())
    assert corruptions.retained(by_place(own), 80) == pytest.approx(100 * own[:15].mean() / 80)
    held_out = {place: value for place, value in by_place(own).items() if place[0] in FAMILIES["held out"]}
    assert corruptions.mean_corrupted(held_out) == pytest.approx(own[15:].mean())


def test_kinds_of_unequal_severities_weigh_the_same() -> None:
    values = {("fog", 1): 10.0, ("fog", 3): 20.0, ("fog", 5): 30.0, ("snow", 5): 60.0}
    assert corruptions.mean_corrupted(values) == pytest.approx((20 + 60) / 2)


def test_relative_errors_leave_out_kinds_that_cost_the_reference_nothing() -> None:
    reference = {("fog", 1): 50.0, ("snow", 1): 30.0}
    assert corruptions.comparable_kinds(reference, 50) == ["snow"]
    assert corruptions.relative_mce({("fog", 1): 1.0, ("snow", 1): 20.0}, 40, reference, 50) == pytest.approx(100)
    assert corruptions.relative_mce(reference, 50, reference, 30) is None
    assert corruptions.mce(reference, {("fog", 1): 100.0, ("snow", 1): 100.0}) is None


def test_only_corruptions_have_a_place(part) -> None:
    assert corruptions.place_of(part("corruption", kind="fog", severity=3)) == ("fog", 3)
    assert corruptions.place_of(part("corruption", kind="acid", severity=3)) is None
    assert corruptions.place_of(part("bim", steps=3)) is None
