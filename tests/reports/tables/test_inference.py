"""Marks of significance follow from counts, corrected for their number."""

import numpy as np
import pytest

from segbench.reports.differences import interval_over_runs, runs_of
from segbench.reports.labels import Labels
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


def two_defenses(one, net, attack, seeds: int) -> tuple[list, dict]:
    """SAT leads clearly on clean images and not at all under BIM, over some seeds."""
    made = [
        (defense, attacked, seed) for seed in range(seeds) for defense in ("sat", "ddcat") for attacked in (False, True)
    ]
    miou = {("sat", False): 70.0, ("ddcat", False): 50.0, ("sat", True): 60.001, ("ddcat", True): 60.0}
    quality = {("sat", False): 0.9, ("ddcat", False): 0.6, ("sat", True): 0.7, ("ddcat", True): 0.7}
    records = [
        one(net("pspnet", defense, seed), *([attack(6)] if attacked else []), miou=miou[defense, attacked])
        for defense, attacked, seed in made
    ]
    counts = {
        record.digest: counts_of(quality[defense, attacked], index)
        for index, (record, (defense, attacked, _)) in enumerate(zip(records, made, strict=True))
    }
    return records, counts


def stars(table) -> list[list[bool]]:
    return [[cell.significant for cell in row.cells] for row in table.blocks[0].rows]


def test_a_clear_lead_over_runs_is_marked_and_a_narrow_one_is_not(one, net, attack_bim) -> None:
    records, counts = two_defenses(one, net, attack_bim, 3)
    (table,) = infer(tables_of(records), counts.get)
    assert stars(table) == [[True, False], [False, False]]
    assert table.remarks[-1].startswith("* significantly above the second")
    assert "correction for 2 comparisons" in table.remarks[-1]


def test_one_run_earns_no_star_and_the_sentence_speaks_of_two_networks(one, net, attack_bim) -> None:
    records, counts = two_defenses(one, net, attack_bim, 1)
    (table,) = infer(tables_of(records), counts.get)
    assert stars(table) == [[False, False], [False, False]]
    assert (
        "Of these two networks on these images, the best is above the second for pspnet under clean ("
        in (table.remarks[-1])
    )


def test_one_checkpoint_under_three_seeds_earns_no_star(one, net, attack_bim) -> None:
    records, counts = two_defenses(one, net, attack_bim, 3)
    same = [
        r.model_copy(
            update={
                part: getattr(r, part).model_copy(update={"weights_sha256": r.target.defense.name})
                for part in ("target", "source")
            }
        )
        for r in records
    ]
    (table,) = infer(tables_of(same), counts.get)
    assert stars(table) == [[False, False], [False, False]]


def test_with_few_images_nothing_is_tested(one, net, attack_bim) -> None:
    records, counts = two_defenses(one, net, attack_bim, 3)
    few = [r.model_copy(update={"n_images": 8}) for r in records]
    (table,) = infer(tables_of(few), {digest: own[:8] for digest, own in counts.items()}.get)
    assert stars(table) == [[False, False], [False, False]]
    assert "With fewer than 12 images no best value is tested against the second." in table.remarks


def transfer(one, net, attack, sources: int) -> tuple[list, dict]:
    records, counts = [], {}
    for defense, quality in (("sat", 0.9), ("ddcat", 0.6)):
        for target in range(3):
            for source in range(sources):
                record = one(
                    net("pspnet", defense, target),
                    attack(6),
                    source=net("deeplabv3", "none", source),
                    miou=100 * quality,
                )
                records.append(record)
                counts[record.digest] = counts_of(quality, len(records))
    return records, counts


@pytest.mark.parametrize(("sources", "starred"), [(1, False), (3, True)])
def test_a_transfer_earns_a_star_only_from_several_sources(one, net, attack_bim, sources, starred) -> None:
    records, counts = transfer(one, net, attack_bim, sources)
    (table,) = infer(tables_of(records), counts.get)
    assert stars(table) == [[starred], [False]]


def test_where_no_lead_is_significant_it_says_so(one, net) -> None:
    records = [one(net("pspnet", defense, seed), miou=60.0) for defense in ("sat", "ddcat") for seed in (0, 1)]
    (table,) = infer(tables_of(records), {r.digest: counts_of(0.6) for r in records}.get)
    assert table.remarks[-1].startswith("No best value is significantly above the second")
    assert not any(cell.significant for row in table.blocks[0].rows for cell in row.cells)


def test_classes_in_few_images_are_named_below_the_table(one, net) -> None:
    record = one(net("pspnet", "sat", 0))
    counts = counts_of(0.6)
    counts[10:, :, 2] = 0
    (table,) = infer(tables_of([record]), {record.digest: counts}.get)
    assert table.remarks[-1].startswith("1 of 3 classes are in fewer than 15 of the 60 images")


def test_intervals_over_seeds_and_images(one, net) -> None:
    records = [one(net("pspnet", "sat", seed), miou=60.0 + seed) for seed in (0, 1)]
    counts = {r.digest: counts_of(0.6 + 0.2 * seed, seed) for seed, r in enumerate(records)}
    (cell,) = infer(tables_of(records), counts.get)[0].blocks[0].rows[0].cells
    expected = interval_over_runs(runs_of(np.stack(list(counts.values())), records), "skip")
    assert (cell.low, cell.high) == (expected.low, expected.high)


def test_without_counts_nothing_is_claimed(records) -> None:
    tables = tables_of(records)
    assert infer(tables, lambda digest: None) == tables


def test_counts_of_one_run_are_not_enough_for_two(one, net) -> None:
    records = [one(net("pspnet", "sat", seed)) for seed in (0, 1)]
    (cell,) = infer(tables_of(records), {records[0].digest: counts_of(0.6)}.get)[0].blocks[0].rows[0].cells
    assert cell.low is None
