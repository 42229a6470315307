"""Tables of corruptions: their columns, and what stands in them, against values by hand and a slow bootstrap."""

import numpy as np
import pytest

from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.statistics import draws, mean_iou
from segbench.reports.tables.corruptions import corrupted, corruption_tables, mean_interval, without_many

KINDS = ("fog", "snow", "jpeg_compression", "spatter")


@pytest.fixture
def build(one, net, part):
    def records(kinds=KINDS, severities=(1, 3), losses=(("none", 30), ("sat", 10)), seeds=(0,)) -> list[Record]:
        made = []
        for defense, loss in losses:
            for seed in seeds:
                network = net("pspnet", defense, seed)
                made.append(one(network, miou=70.0 + seed))
                for index, kind in enumerate(kinds):
                    for severity in severities:
                        attack = part("corruption", f"{kind}-{severity}", kind=kind, severity=severity)
                        made.append(one(network, attack, miou=70.0 + seed - loss - index - severity))
        return made

    return records


def cells(records: list[Record], reference: str = "", evidence: Evidence = NOTHING) -> dict[tuple[str, str], object]:
    (table,) = corruption_tables(records, Labels(records), reference, evidence)
    return {(row.label, column.sub): cell for _, row, column, cell in table.cells}


def test_kinds_are_means_over_severities_and_families_stand_together(build) -> None:
    records = build()
    (table,) = corruption_tables(records, Labels(records), "", NOTHING)
    assert table.heads == (("all kinds", 3), ("weather", 2), ("digital", 1), ("held out", 1))
    found = cells(records)
    assert found["none", "snow"].mean == pytest.approx(40 - 1 - 2)
    assert found["none", "corrupted"].mean == pytest.approx(40 - (0 + 1 + 2) / 3 - 2)
    assert found["sat", "retained"].mean == pytest.approx(100 * (60 - 1 - 2) / 70)
    assert (found["sat", "corrupted"].rank, found["none", "corrupted"].rank) == (1, 2)


def test_errors_are_those_over_the_reference(build) -> None:
    found = cells(build(kinds=("fog",)), "pspnet with none")
    assert found["none", "mCE"].mean == pytest.approx(100)
    assert found["sat", "mCE"].mean == pytest.approx(100 * (41 + 43) / (61 + 63))
    assert found["sat", "relative mCE"].mean == pytest.approx(100 * (11 + 13) / (31 + 33))
    assert found["sat", "mCE"].rank == 1


def test_without_a_reference_there_is_no_error_and_the_table_says_how_to_have_one(build) -> None:
    records = build()
    (table,) = corruption_tables(records, Labels(records), "", NOTHING)
    assert "mCE" not in {column.sub for column in table.columns}
    assert "reference" in table.remarks[0]
    (table,) = corruption_tables(records, Labels(records), "fcn", NOTHING)
    assert "fcn, has no complete values" in table.remarks[0]


def test_a_reference_that_may_be_several_is_refused(build) -> None:
    records = build()
    with pytest.raises(ValueError, match="pspnet without defense, pspnet with sat"):
        corruption_tables(records, Labels(records), "pspnet", NOTHING)


def test_runs_that_are_not_complete_are_left_out_and_counted(build) -> None:
    records = build(seeds=(0, 1))
    gone = records.index(next(r for r in records if r.attack.options.get("kind") == "fog"))
    records[gone] = records[gone].model_copy(update={"status": "failed", "scores": None, "error": "no"})
    found = cells(records)
    assert (found["none", "fog"].done, found["none", "fog"].state) == (1, "partial")
    assert (found["none", "snow"].done, found["none", "corrupted"].done) == (2, 1)
    assert found["none", "corrupted"].rank == 0


def test_one_corruption_makes_no_table_and_few_keep_their_columns(build) -> None:
    few, many = build(kinds=("fog",)), build()
    assert corruption_tables(build(kinds=("fog",), severities=(1,)), Labels(few), "", NOTHING) == []
    assert without_many(few, Labels(few)) == few
    assert {r.setting for r in without_many(many, Labels(many))} == {"clean"}


def test_the_interval_takes_the_same_images_under_every_corruption(build) -> None:
    records = build(kinds=("fog", "snow"), losses=(("none", 30),))
    rng = np.random.default_rng(0)
    true = np.full((20, 3), 100)
    right = {r.digest: rng.integers(10, 90, (20, 3)) for r in records}
    counts = {digest: np.stack([own, own, true], 1) for digest, own in right.items()}
    ((runs),) = corrupted(records, Labels(records)).values()
    found = mean_interval(runs, Evidence(counts.get))
    own = [counts[r.digest] for r in records if r.setting != "clean"]
    drawn = [
        np.mean([100 * mean_iou(np.repeat(c, times.astype(int), 0).sum(0), "skip") for c in own])
        for weights in draws(20, 1000)
        for times in weights
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    assert mean_interval(runs, NOTHING) is None
