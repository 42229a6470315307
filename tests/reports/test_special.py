"""Oblivious attacks, dynamic defenses and certificates: shown, and never mixed with or ranked among the others."""

from __future__ import annotations

import pytest

from segbench.reports.compare import compare
from segbench.reports.evidence import NOTHING
from segbench.reports.figures.robustness import curves
from segbench.reports.formats.frames import tidy
from segbench.reports.labels import Labels
from segbench.reports.page.page import compose
from segbench.reports.page.reading import fates_of, notes
from segbench.reports.page.verdict import verdict
from segbench.reports.records import Manifest
from segbench.reports.render import render
from segbench.reports.tables.inference import infer
from segbench.reports.tables.layouts import layouts


@pytest.fixture
def special(one, net, attack_bim):
    """Clean, adaptive (20) and oblivious (70) values of jpeg beside none (30) and a dynamic defense (90)."""
    records = []
    for seed in (0, 1):
        none, jpeg, dynamic = (net("pspnet", name, seed) for name in ("none", "jpeg", "teacher-student"))
        records += [one(none, miou=75.0), one(none, attack_bim(2), miou=40.0), one(none, attack_bim(6), miou=30.0)]
        records += [one(jpeg, miou=70.0)]
        records += [one(jpeg, attack_bim(k), miou=v + seed, adaptive=True) for k, v in ((2, 35.0), (6, 20.0))]
        for k, v in ((2, 72.0), (6, 70.0)):
            made = one(jpeg, attack_bim(k), miou=v + seed, adaptive=False)
            records.append(made.model_copy(update={"digest": f"oblivious{k}{seed}"}))
        records += [one(dynamic, miou=92.0, dynamic=True)]
        records += [one(dynamic, attack_bim(k), miou=90.0, dynamic=True) for k in (2, 6)]
    return records


def table_of(records):
    (table,) = layouts(records, Labels(records))
    return table


def test_oblivious_and_adaptive_values_have_rows_of_their_own(special) -> None:
    (block,) = table_of(special).blocks
    assert [row.label for row in block.rows] == [
        "none",
        "jpeg",
        "jpeg, oblivious attack",
        "teacher-student (dynamic)",
    ]
    means = [[cell.mean for cell in row.cells] for row in block.rows]
    assert means == [[75, 40, 30], [70, 35.5, 20.5], [None, 72.5, 70.5], [92, 90, 90]]
    assert [cell.done for cell in block.rows[2].cells] == [0, 2, 2]


def test_the_oblivious_row_follows_its_own_whenever_it_was_run(special) -> None:
    late = sorted(special, key=lambda record: record.oblivious)
    assert [row.label for row in table_of(late).blocks[0].rows] == [
        row.label for row in table_of(special).blocks[0].rows
    ]


def test_only_what_can_be_compared_is_ranked_and_tested(special) -> None:
    table = table_of(special)
    assert [[c.rank for c in row.cells] for row in table.blocks[0].rows] == [[1, 1, 1], [2, 2, 2], [0, 0, 0], [0, 0, 0]]
    asked = []
    infer([table], lambda digest: asked.append(digest))
    others = {r.digest for r in special if r.dynamic or r.oblivious}
    pairs = [c for row in table.blocks[0].rows[:2] for c in row.cells]
    assert {run.digest for cell in pairs for run in cell.records} <= set(asked)
    assert all(asked.count(digest) <= 1 for digest in others)  # for its interval, not for a test


def test_the_reading_is_of_adaptive_attacks_on_static_networks(special) -> None:
    table = table_of(special)
    assert [(fate.defense, fate.worst) for fate in fates_of(table)] == [("none", 30.0), ("jpeg", 20.5)]
    text = " ".join(line.text for line in verdict([table], NOTHING))
    assert "2 of 2 networks lose" in text
    assert "70" not in text.replace("from 70.0", "").replace("of its 70.0", "")


def test_a_dynamic_network_that_learnt_nothing_is_named(special) -> None:
    def idle(record):
        scores = record.scores.model_copy(update={"class_iou": (99.0, 0.0, None)})
        return record.model_copy(update={"scores": scores}) if record.dynamic else record

    assert not any("one class alone" in note for note in notes(table_of(special)))
    (note,) = [note for note in notes(table_of([idle(r) for r in special])) if "one class alone" in note]
    assert note.endswith(": pspnet with teacher-student (dynamic).")


def test_captions_say_what_these_rows_are(special, records) -> None:
    caption = table_of(special).caption
    assert "says nothing about robustness and is not ranked" in caption
    assert "one by one in their order" in caption
    plain = layouts(records, Labels(records))[0].caption
    assert "oblivious" not in plain
    assert "dynamic" not in plain


def test_certificates_stand_below_the_table(one, net) -> None:
    extras = {"certified_miou": 40.0, "certified_aacc": 60.0, "certified_radius": 0.1686, "abstained": 25.0}
    smoothed = [
        one(net("pspnet", "randomized-smoothing", seed), extras={**extras, "certified_miou": 40.0 + seed})
        for seed in (0, 1)
    ]
    (note,) = [note for note in notes(table_of(smoothed)) if "certifies" in note]
    assert "within an L2 distance of 0.169: mIoU 40.5, pixel accuracy 60.0, 25.0 % of the pixels" in note
    assert "means of 2 runs" in note
    assert not any("certifies" in note for note in notes(table_of([one(net("pspnet", "none", 0))])))


def test_curves_leave_oblivious_attacks_out(special) -> None:
    table = table_of(special)
    (figure,) = curves(table, Labels(special), "steps")
    assert "jpeg: 70.0 at 0, 35.5 at 2, 20.5 at 6" in figure.alt


def test_a_comparison_pairs_like_with_like(special) -> None:
    found = compare(special, list(reversed(special)))
    assert len(found.pairs) == len(special)
    assert {(pair.a.digest, pair.b.digest) for pair in found.pairs} == {(r.digest, r.digest) for r in special}


def test_the_tidy_table_tells_them_apart(special) -> None:
    frame = tidy(special)
    jpeg = frame[(frame.defense == "jpeg") & (frame.setting == "white-box")]
    assert jpeg.groupby("adaptive").miou.mean().to_dict() == {False: 71.5, True: 28.0}
    assert frame[frame.dynamic].defense.unique().tolist() == ["teacher-student"]
    assert frame[frame.defense == "none"].adaptive.isna().all()


def test_every_format_shows_them(special, tmp_path) -> None:
    manifest = Manifest(name="special", title="Special", records=tuple(special))
    for path in render(manifest, tmp_path, ("html", "md", "csv", "cells", "tex")):
        text = path.read_text()
        assert "70.5" in text or path.name == "records.csv"
        assert "oblivious" in text or path.name == "records.csv"
    assert len(compose(manifest).records) == len(special)
