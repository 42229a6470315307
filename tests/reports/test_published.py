"""Published values stand where they belong and nowhere else."""

import csv
import io
from importlib.resources import files

import pytest

from segbench.reports.labels import Labels
from segbench.reports.page.page import compose
from segbench.reports.published import PAPERS, beside, load
from segbench.reports.records import Manifest
from segbench.reports.render import render
from segbench.reports.tables.layouts import layouts


@pytest.fixture
def voc(records, part):
    return [r.model_copy(update={"dataset": part("voc2012")}) for r in records]


def tables_of(records):
    return beside(layouts(records, Labels(records)), load("xu2021"))


def row(table, model, label):
    (found,) = [r for b in table.blocks if b.label == model for r in b.rows if r.label == label]
    return found


def test_the_paper_is_whole() -> None:
    rows = list(csv.DictReader(io.StringIO((files("segbench.reports.published") / "xu2021.csv").read_text())))
    assert len(rows) == 280
    assert [r for r in rows if not r["mean"]] == [r for r in rows if "illegible" in r["note"]]
    assert len([r for r in rows if not r["mean"]]) == 1
    assert {r["table"] for r in rows} == set("123456")
    for r in rows:
        assert r["mean"] == "" or 0 < float(r["mean"]) < 80
    repeated: dict[tuple, set] = {}
    for r in rows:
        where = tuple(r[k] for k in ("dataset", "setting", "model", "defense", "attack", "options"))
        repeated.setdefault(where, set()).add(r["mean"])
    assert all(len(means) == 1 for means in repeated.values()), "two tables of the paper disagree"


def test_white_box_values_are_those_of_table_1(voc) -> None:
    table = tables_of(voc)[0]
    none, sat = row(table, "pspnet", "none"), row(table, "pspnet", "sat")
    assert [cell.published.mean for cell in none.cells] == [76.9, 18.9, 7.8, 5.4]
    assert [cell.published.std for cell in none.cells] == [None] * 4
    assert [cell.published.mean for cell in sat.cells] == [74.3, 68.1, 44.5, 27.9]
    assert [cell.published.std for cell in sat.cells] == [0.5, 1.8, 2.9, 3.2]
    assert none.cells[0].difference == pytest.approx(none.cells[0].mean - 76.9)


def test_black_box_values_are_those_of_table_2(voc) -> None:
    found = row(tables_of(voc)[1], "pspnet", "none")
    assert [cell.published.mean for cell in found.cells] == [76.9, 24.0, 10.6, 6.0]


def test_defenses_that_were_not_run_have_rows_of_their_own(voc) -> None:
    found = row(tables_of(voc)[0], "deeplabv3", "ddcat-m (published)")
    assert all(cell.mean is None and cell.rank == 0 for cell in found.cells)
    assert all(cell.published.mean is not None for cell in found.cells)


def test_other_data_other_budgets_other_attacks_have_none(records, voc, one, net, attack_bim, part) -> None:
    assert not any(c.published for t in tables_of(records) for b in t.blocks for r in b.rows for c in r.cells)
    stronger = [one(net("pspnet", "none", 0), attack_bim(4, eps=0.06), dataset="voc2012")]
    named = row(tables_of([*voc, *stronger])[0], "pspnet", "none")
    assert named.cells[-1].published is None


def test_another_protocol_is_not_like_for_like(voc, part) -> None:
    assert any("not like for like" in remark for remark in tables_of(voc)[0].remarks)
    crops = [r.model_copy(update={"protocol": part("ddcat-crop-v1")}) for r in voc]
    assert not any("not like for like" in remark for remark in tables_of(crops)[0].remarks)
    assert any("arxiv.org" in remark for remark in tables_of(crops)[0].remarks)


def test_notes_on_values_are_shown(one, net, part) -> None:
    attack = part("deepfool", eps=0.03, steps=50)
    (table,) = tables_of([one(net("pspnet", "none", 0), attack, dataset="voc2012")])
    assert any("stopped much earlier" in remark for remark in table.remarks)


def test_they_reach_every_format(voc, tmp_path) -> None:
    manifest = Manifest(name="voc", title="VOC", records=tuple(voc))
    render(manifest, tmp_path, ["html", "md", "tex", "cells"], published="xu2021")
    assert "published 18.9" in (tmp_path / "report.html").read_text()
    assert "\\[18.9, " in (tmp_path / "report.md").read_text()
    assert "published 18.9" in (tmp_path / "tables.tex").read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tables.csv").read_text())))
    assert [r["published_mean"] for r in rows][:4] == ["76.9", "18.9", "7.8", "5.4"]
    assert float(rows[0]["difference"]) == pytest.approx(float(rows[0]["mean"]) - 76.9)


def test_a_paper_that_says_nothing_of_the_records_is_told(records, voc) -> None:
    for own, told in ((records, True), (voc, False)):
        page = compose(Manifest(name="x", title="x", records=tuple(own)), published="xu2021")
        assert page.status.endswith("; xu2021 holds no value for any of them") == told


def test_an_unknown_paper_is_an_error(manifest) -> None:
    with pytest.raises(ValueError, match=f"there are: {', '.join(PAPERS)}"):
        compose(manifest, published="xu2020")


def test_the_strong_attack_s_value_stands_beside_ddcat_at_its_own_eps_only(one, net, part) -> None:
    for eps, expected in ((2 / 255, 0.1), (8 / 255, 0.0), (16 / 255, None)):
        attack = part("sea", eps=eps, steps=300)
        tables = layouts([run := one(net("pspnet", "ddcat", 0), attack, dataset="voc2012")], Labels([run]))
        (table,) = beside(tables, load("croce2024"))
        found = [cell.published for block in table.blocks for row in block.rows for cell in row.cells if cell.records]
        assert [value and value.mean for value in found] == [expected]


def test_ade20k_is_that_of_the_paper_where_unlabelled_pixels_are_a_class(one, net, part) -> None:
    for dataset, expected in (("ade20k-background", [17.2]), ("ade20k", [None])):
        attack = part("sea", eps=4 / 255, steps=300)
        tables = layouts([run := one(net("upernet-convnext-t", "pir-at", 0), attack, dataset=dataset)], Labels([run]))
        (table,) = beside(tables, load("croce2024"))
        found = [cell.published for block in table.blocks for row in block.rows for cell in row.cells if cell.records]
        assert [value and value.mean for value in found] == expected
