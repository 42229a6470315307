"""Tables of chosen metrics: the values of records, in all formats."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.formats.frames import tidy
from segbench.reports.formats.html import to_html
from segbench.reports.labels import Labels
from segbench.reports.metrics.registry import measured, metric
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.metrics.values import chosen, value_of, with_metrics
from segbench.reports.page.page import compose, explain
from segbench.reports.records import Manifest
from segbench.reports.render import judge, render
from segbench.reports.tables.layouts import layouts
from segbench.reports.tables.metrics import metric_tables


@pytest.fixture
def records(build):
    """Two networks, two seeds, clean and one attack; ECE falls with the mIoU, and one record has none."""
    found = []
    for record in build(models=("pspnet",), steps=(6,)):
        miou = record.scores.miou
        metrics = {"miou": miou, "ece": round(miou / 1000, 4), "recall.small": None, "images_under.50": 100 - miou}
        found.append(record.model_copy(update={"metrics": metrics, "tallied": ("confidence", "objects")}))
    return found


def table_of(records, *names, evidence=NOTHING):
    plain = layouts(records, Labels(records))
    (table,) = metric_tables(plain[:1], chosen(names, records), evidence)
    return plain[0], table


def test_the_best_is_the_lowest_where_lower_is_better(records) -> None:
    plain, table = table_of(records, "miou", "ece", "images_under.50")
    assert table.metrics == ("miou", "ece", "images_under.50")
    assert [column.sub for column in table.columns] == ["mIoU", "ECE", "images under 50"] * len(plain.columns)
    for column in range(1, len(table.columns), 3):
        cells = sorted((row.cells[column] for row in table.blocks[0].rows), key=lambda cell: cell.mean)
        assert [cell.rank for cell in cells[:2]] == [1, 2]
    for row, own in zip(plain.blocks[0].rows, table.blocks[0].rows, strict=True):
        for index, cell in enumerate(row.cells):
            miou, ece, under = own.cells[3 * index : 3 * index + 3]
            assert miou.mean == pytest.approx(cell.mean)
            assert miou.std == pytest.approx(cell.std)
            assert (miou.rank, under.rank) == (cell.rank, cell.rank)
            assert ece.text(ece.mean) == f"{ece.mean:.3f}"
            assert re.match(r"0\.\d{4}; standard deviation 0\.\d{4}; runs 0\.\d{4}, 0\.\d{4}", explain(ece))


def test_what_was_not_tallied_and_what_has_no_value_say_so(records) -> None:
    _, table = table_of(records, "recall.small", "boundary_iou")
    first, second = table.blocks[0].rows[0].cells[:2]
    assert (first.state, first.mean, first.words) == ("no value", None, "-")
    assert (second.state, second.mean, second.words) == ("not tallied", None, "not tallied")
    some = [records[0].model_copy(update={"metrics": {"ece": 0.5}}), *records[1:]]
    some[0] = some[0].model_copy(update={"metrics": {**some[0].metrics, "recall.small": 40.0}})
    _, table = table_of(some, "recall.small")
    cell = table.blocks[0].rows[0].cells[0]
    assert (cell.state, cell.mean, cell.done, cell.expected) == ("partial", 40.0, 1, 2)


def test_all_formats_show_them(records, tmp_path) -> None:
    manifest = Manifest(name="m", title="Metrics", records=tuple(records), metrics=("ece", "boundary_iou"))
    page, text, tables, tex, csv = render(manifest, tmp_path, ["html", "md", "cells", "tex", "csv"], figures=False)
    for path in (page, text, tex):
        content = path.read_text()
        assert "not tallied" in content
        assert "lower is better" in content
        assert re.search(r"0\.0\d\d", content)
    frame = pd.read_csv(tables)
    own = frame[frame["table"] == "table-1-metrics"]
    assert set(own["metric"]) == {"ece", "boundary_iou"}
    assert set(own["attack"]) == set(frame[frame["table"] == "table-1"]["attack"])
    assert pd.read_csv(csv)["ece"].tolist() == [record.metrics["ece"] for record in records]
    assert "further metrics" in to_html(compose(manifest))


def test_without_metrics_there_is_no_further_table(records) -> None:
    page = compose(Manifest(name="m", title="Metrics", records=tuple(records)))
    assert not [section for section in page.sections if section.table.metrics]


def test_metrics_that_do_not_stand_in_records_come_from_their_counts(records) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, (7, 1, len(records[0].classes))).repeat(3, 1)
    counts[:, 0] //= 2
    evidence = Evidence(counts=lambda digest: counts)
    name = f"{records[0].classes[1]}.iou"
    expected = measured(Tallied(counts, "skip"))
    assert value_of(records[0], metric(name, records[0].classes), evidence) == pytest.approx(
        100 * counts[:, 0, 1].sum() / (2 * counts[:, 1, 1].sum() - counts[:, 0, 1].sum())
    )
    assert value_of(records[0], metric("p10_image_iou"), evidence) is not None
    assert value_of(records[0], metric("boundary_iou"), evidence) is None
    assert value_of(records[0], metric("p10_image_iou"), NOTHING) is None
    old = [record.model_copy(update={"metrics": {}, "tallied": ()}) for record in records]
    assert with_metrics(old, evidence)[0].metrics == expected
    assert with_metrics(old, NOTHING)[0].metrics == {}
    judged = judge(Manifest(name="m", title="Old", records=tuple(old)), evidence)
    assert tidy(judged.records)["image_iou"].notna().all()
    assert tidy(judged.records)["ece"].isna().all()


def test_a_class_that_no_record_has_is_an_error(records, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no metric is called 'zebra\.iou'"):
        render(Manifest(name="m", title="M", records=tuple(records), metrics=("zebra.iou",)), tmp_path, ["md"])


def test_a_metric_of_a_class_stands_only_in_tables_that_have_it(records) -> None:
    plain = layouts(records, Labels(records))
    other = replace(plain[0], name="other")
    assert metric_tables([plain[0], other], chosen([f"{records[0].classes[0]}.iou"], records), NOTHING)[1].metrics
    assert metric_tables(plain, (), NOTHING) == []


def test_intervals_are_over_images_with_one_run_and_over_runs_too_with_several(records) -> None:
    rng = np.random.default_rng(0)
    counts, tallies = {}, {}
    for record in records:
        true = np.full((25, 2), 200)
        right = rng.integers(20, 180, (25, 2))
        counts[record.digest] = np.stack([right, right, true], 1)
        tallies[record.digest] = {
            "objects": np.stack([np.ones((25, 3)), np.ones((25, 3)), *[np.full((25, 3), 9)] * 2], 1)
        }
        tallies[record.digest]["objects"][:, 3] = rng.integers(0, 10, (25, 3))
    evidence = Evidence(counts=counts.get, tallies=lambda digest: tallies[digest])
    bare = [r.model_copy(update={"metrics": {}}) for r in records]
    single = [r for r in bare if r.target.seed == 0]
    _, table = table_of(single, "recall.small", "p5_image_iou", evidence=evidence)
    cell = table.blocks[0].rows[0].cells[0]
    objects = tallies[cell.records[0].digest]["objects"][:, 3, 0]
    drawn = [100 * objects[rng.integers(25, size=25)].mean() / 9 for _ in range(4000)]
    assert (cell.low, cell.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=1.5)
    assert "95 % interval" in explain(cell)
    _, both = table_of(bare, "recall.small", "p5_image_iou", evidence=evidence)
    for one, two in zip(table.cells, both.cells, strict=True):
        assert one[3].low <= one[3].mean <= one[3].high
        assert 0 <= two[3].low <= two[3].mean <= two[3].high <= 100
    # With two trainings the interval is that of Student's t with few degrees of freedom where they differ.
    assert both.blocks[0].rows[0].cells[1].high - both.blocks[0].rows[0].cells[1].low > 0


def test_there_is_no_interval_without_counts(records) -> None:
    _, table = table_of(records, "ece")
    assert table.blocks[0].rows[0].cells[0].low is None


def test_a_worst_case_has_the_tallies_of_the_attack_that_is_chosen_for_each_image(one, net, attack_bim) -> None:
    network = net("pspnet", "none", 0)
    runs = [one(network, attack_bim(steps), tallied=("objects",)) for steps in (2, 6)]
    true = np.full((4, 2), 100)
    right = [np.array([[90, 90], [5, 5], [90, 90], [5, 5]]), np.array([[5, 5], [90, 90], [5, 5], [90, 90]])]
    counts = {run.digest: np.stack([own, own, true], 1) for run, own in zip(runs, right, strict=True)}
    tallies = {run.digest: {"objects": np.zeros((4, 4, 3))} for run in runs}
    for run, own in zip(runs, right, strict=True):
        tallies[run.digest]["objects"][:, 2:, 0] = np.stack([true.sum(1), own.sum(1)], 1)
    evidence = Evidence(counts.get, parts=lambda digest: [counts[digest]], tallies=tallies.get)
    manifest = Manifest(name="m", title="m", records=tuple(runs), worst_of={"worst": ("bim",)})
    worst = judge(manifest, evidence).records[-1]
    assert worst.metrics["recall.small"] == pytest.approx(5)
    assert (worst.tallied, worst.metrics["miou"]) == (("objects",), worst.scores.miou)
    whole = Evidence(counts.get, parts=lambda digest: [counts[digest]] * 2, tallies=tallies.get)
    assert judge(manifest, whole).records[-1].tallied == ()
