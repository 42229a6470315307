"""Marks of significance follow from counts, corrected for their number."""

import numpy as np
import pytest

from segbench.reports.labels import Labels
from segbench.reports.statistics import interval
from segbench.reports.tables.inference import holm, infer
from segbench.reports.tables.layouts import layouts


def tables_of(records):
    return layouts(records, Labels(records))


def counts_of(quality: float, seed: int = 0, images: int = 60) -> np.ndarray:
    """Counts over the same true pixels for every quality and seed."""
    true = np.random.default_rng(0).integers(100, 900, size=(images, 3))
    rng = np.random.default_rng(seed + 1)
    right = np.rint(true * np.clip(quality + rng.normal(0, 0.05, size=true.shape), 0, 1)).astype(np.int64)
    return np.stack([right, right + (true - right) // 2, true], axis=1)


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([0.01], [0.01]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.04, 0.001], [0.04, 0.002]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm(raw, corrected) -> None:
    assert holm(raw) == pytest.approx(corrected)


def test_a_clear_lead_is_marked_and_a_narrow_one_is_not(one, net, attack_bim) -> None:
    sat, ddcat = net("pspnet", "sat", 0), net("pspnet", "ddcat", 0)
    records = [
        one(sat, miou=70.0),
        one(ddcat, miou=50.0),
        one(sat, attack_bim(6), miou=60.001),
        one(ddcat, attack_bim(6), miou=60.0),
    ]
    counts = dict(zip((r.digest for r in records), map(counts_of, (0.9, 0.6, 0.7, 0.7), range(4)), strict=True))
    (table,) = infer(tables_of(records), counts.get)
    marks = [[cell.significant for cell in row.cells] for row in table.blocks[0].rows]
    assert marks == [[True, False], [False, False]]
    assert "correction for 2 comparisons" in table.remarks[-1]


def test_where_no_lead_is_significant_it_says_so(one, net) -> None:
    records = [one(net("pspnet", defense, 0), miou=60.0) for defense in ("sat", "ddcat")]
    (table,) = infer(tables_of(records), {r.digest: counts_of(0.6) for r in records}.get)
    assert table.remarks[-1].startswith("No best value is significantly above the second")
    assert not any(cell.significant for row in table.blocks[0].rows for cell in row.cells)


def test_intervals_over_seeds_and_images(one, net) -> None:
    records = [one(net("pspnet", "sat", seed), miou=60.0 + seed) for seed in (0, 1)]
    counts = {r.digest: counts_of(0.6 + 0.2 * seed, seed) for seed, r in enumerate(records)}
    (cell,) = infer(tables_of(records), counts.get)[0].blocks[0].rows[0].cells
    expected = interval(np.stack(list(counts.values())), "skip")
    assert (cell.low, cell.high) == (expected.low, expected.high)


def test_without_counts_nothing_is_claimed(records) -> None:
    tables = tables_of(records)
    assert infer(tables, lambda digest: None) == tables


def test_counts_of_one_run_are_not_enough_for_two(one, net) -> None:
    records = [one(net("pspnet", "sat", seed)) for seed in (0, 1)]
    (cell,) = infer(tables_of(records), {records[0].digest: counts_of(0.6)}.get)[0].blocks[0].rows[0].cells
    assert cell.low is None
