from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from rich.console import Console

from segbench.cli import results
from segbench.cli.results import results_tables
from segbench.plan.plan import Plan
from segbench.reports.records import Record, Scores


def done(record: Record, miou: float) -> Record:
    scores = Scores(miou=miou, macc=0, aacc=0, class_iou=(), miou_low=0, miou_high=100)
    return record.model_copy(update={"status": "done", "scores": scores})


def shown(records: list[Record], width: int = 160, names: Mapping[str, str] | None = None) -> str:
    console = Console(record=True, width=width)
    for table in results_tables(records, console, names=names or {}):
        console.print(table)
    return console.export_text()


def test_seeds_are_averaged_and_what_failed_stays_visible(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(seeds=[0, 1], defenses=["none"], transfer=None, attacks=["clean", "bim(steps=1)"])
    records = [
        done(cell.expected(), 40.0 + 10 * cell.target.seed)
        if cell.attack.name == "clean"
        else cell.expected().model_copy(update={"status": "failed", "error": "no memory"})
        for cell in plan.evaluations
    ]
    text = shown(records)
    row = next(line for line in text.splitlines() if "PSPNet" in line)
    assert "45.0 ±7.1" in row
    assert "failed" in row
    assert "pspnet" not in row


def test_two_of_one_name_are_told_apart(tiny_plan: Callable[..., Plan]) -> None:
    models = ["pspnet(encoder=tiny)", "pspnet(encoder=tiny, channels=8)"]
    plan = tiny_plan(models=models, defenses=["none"], transfer=None)
    assert "PSPNet (encoder=tiny, channels=8)" in shown([done(cell.expected(), 50.0) for cell in plan.evaluations])


def test_names_are_those_of_the_report(tiny_plan: Callable[..., Plan]) -> None:
    attacks = ["clean", "bim(steps=2)", "bim(steps=2, norm=l2)"]
    plan = tiny_plan(models=["pspnet(encoder=tiny)"], defenses=["none"], transfer=None, attacks=attacks)
    records = [done(cell.expected(), 50.0) for cell in plan.evaluations]
    for width in (80, 160):
        text = shown(records, width)
        assert all(name in text for name in ("Digits, white-box", "PSPNet", "BIM-2", "BIM-2 (L2)"))
    assert "Mine" in shown(records, names={"pspnet": "Mine"})


def test_oblivious_attacks_and_dynamic_defenses_are_marked(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(defenses=["jpeg", "teacher-student"], transfer=None, attacks=["clean", "bim(steps=1)"])
    records = [done(c.expected(), 10.0 if c.oblivious else 20.0) for c in plan.evaluations]
    rows = [line for line in shown(records).splitlines() if "PSPNet" in line]
    names = [
        "JPEG",
        "JPEG, oblivious attack",
        "Teacher-Student (dynamic)",
        "Teacher-Student (dynamic), oblivious attack",
    ]
    assert [row.split("│")[2].strip() for row in rows] == names
    assert ["10.0" in row for row in rows] == [False, True, False, True]
    assert ["20.0" in row for row in rows] == [True, False, True, False]


def test_many_attacks_come_in_several_tables_that_fit(tiny_plan: Callable[..., Plan]) -> None:
    attacks = ["clean", *(f"bim(steps={n})" for n in range(1, 15))]
    plan = tiny_plan(defenses=["none"], transfer=None, attacks=attacks)
    text = shown([done(cell.expected(), 41.25) for cell in plan.evaluations], width=80)
    assert "…" not in text
    assert all(f"BIM-{n}" in text for n in range(1, 15))
    assert text.count("41.2") == 2 * len(attacks)
    assert max(map(len, text.splitlines())) <= 80


def test_a_value_with_a_flag_is_marked(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(seeds=[0, 1], defenses=["none"], transfer=None, attacks=["clean", "bim(steps=1)"])
    records = [done(cell.expected(), 50.0) for cell in plan.evaluations]
    assert "⚑" not in shown(records)
    last = records[-1].model_copy(update={"flags": ("zero-loss",)})
    row = next(line for line in shown([*records[:-1], last]).splitlines() if "DeepLabv3" in line)
    assert [cell.count("⚑") for cell in row.split("│")[3:5]] == [0, 1]


def test_networks_of_two_recipes_are_two_rows(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(models=["pspnet(encoder=tiny)"], defenses=["none"], transfer=None, attacks=["clean"])
    (record,) = (done(cell.expected(), 50.0) for cell in plan.evaluations)
    other = record.target.model_copy(update={"recipe": {**record.target.recipe, "lr": 0.5}, "digest": "other"})
    changed = done(record.model_copy(update={"digest": "other", "target": other, "source": other}), 30.0)
    rows = [line for line in shown([record, changed]).splitlines() if "PSPNet" in line]
    assert ["50.0" in row for row in rows] == [True, False]
    assert "none [lr=0.5]" in rows[1]


def test_many_corruptions_are_one_row_for_each_network(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(defenses=["none"], transfer=None, attacks=["clean", "corruption(kind=[fog, snow], severity=all)"])
    values = {"clean": 50.0, "fog": 40.0, "snow": 20.0}
    records = [
        done(cell.expected(), values[str(cell.attack.options.get("kind", "clean"))]) for cell in plan.evaluations
    ]
    text = shown(records)
    assert "severity" not in text.replace("severities", "")
    row = next(line for line in text.splitlines() if "60.0" in line)
    assert "30.0" in row


def test_a_terminal_shows_no_tables_that_nobody_reads(
    tiny_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [done(cell.expected(), 40.0) for cell in tiny_plan(transfer=None).evaluations]
    monkeypatch.setattr(results, "MOST_NETWORKS", 4)
    assert "PSPNet" in shown(records)
    monkeypatch.setattr(results, "MOST_NETWORKS", 3)
    assert shown(records) == ""
