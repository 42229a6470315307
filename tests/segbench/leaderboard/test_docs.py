"""What of docs/leaderboard is made is current, and passes the check."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shlex
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from segbench import cli
from segbench.leaderboard import entry_files
from segbench.reports.leaderboard.entries import Entry

DOCS = Path(__file__).resolve().parents[3] / "docs"
AGAIN = "is not what the script makes: run `python docs/generate_leaderboard.py`"


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_leaderboard", DOCS / "generate_leaderboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def literature(generator: Any) -> list[Entry]:
    return list(generator.literature())


def test_the_committed_schema_is_current(generator: Any) -> None:
    assert (DOCS / "leaderboard" / "entry.schema.json").read_text(encoding="utf-8") == generator.schema(), AGAIN


def test_the_committed_literature_is_current(generator: Any, literature: list[Entry]) -> None:
    folder = DOCS / "leaderboard" / "entries"
    for entry in literature:
        path = folder / entry.path
        assert path.is_file(), f"{path} {AGAIN}"
        assert path.read_text(encoding="utf-8") == generator.text(entry), f"{path} {AGAIN}"
    sourced = {entry.path for entry in entry_files.load([folder]) if entry.source is not None}
    assert sourced == {entry.path for entry in literature}, f"an entry of a paper {AGAIN}"


def test_all_committed_entries_pass_the_check() -> None:
    assert len(entry_files.load([DOCS / "leaderboard" / "entries"])) >= 70


def test_every_value_of_the_tables_is_entered_once(literature: list[Entry]) -> None:
    for name, tables, legible in (("xu2021", "1245", 167), ("croce2024", "12", 30)):
        text = (package_files("segbench.reports.published") / f"{name}.csv").read_text(encoding="utf-8")
        rows = [row for row in csv.DictReader(text.splitlines()) if row["table"] in tables and row["mean"]]
        assert len(rows) == legible
        published = sorted(float(row["mean"]) for row in rows if row["attack"] != "clean")
        cited = "Xu" if name == "xu2021" else "Croce"
        own = [entry for entry in literature if entry.source is not None and entry.source.citation.startswith(cited)]
        assert sorted(result.mean for entry in own for result in entry.attacked) == published


def test_only_the_strong_attack_ranks_the_literature(literature: list[Entry]) -> None:
    by_path = {entry.path: entry for entry in literature}
    robust = by_path["voc2012-val/sea-v2/white-box-linf-4-255/upernet-convnext-t-pir-at-croce-2024.json"]
    assert not robust.unranked
    assert robust.worst is not None
    assert (robust.worst.mean, robust.results[0].mean) == (64.9, 75.2)
    weak = by_path["voc2012-val/ddcat-crop-v1/white-box-linf-0.03/pspnet-ddcat-xu-2021.json"]
    assert "strong attack" in weak.unranked
    assert [r.mean for r in weak.results] == [76.0, 75.6, 47.9, 33.8, 61.2, 67.4]
    assert "0.0 % at 4/255" in weak.notes


def test_a_value_that_cannot_be_read_is_left_out(literature: list[Entry]) -> None:
    (entry,) = [entry for entry in literature if "illegible" in entry.notes]
    assert (entry.threat.setting, entry.model.name) == ("black-box", "pspnet ddcat (Xu 2021)")
    assert "cw" not in {result.attack.name for result in entry.attacked if result.attack}


def test_the_schema_knows_every_field(generator: Any) -> None:
    content = json.loads(generator.schema())
    assert content["$schema"].endswith("2020-12/schema")
    assert set(content["properties"]) == set(Entry.model_fields)
    assert content["additionalProperties"] is False


SCENES: dict[str, Any] = {
    "dataset": "digits(size=16, train=12, val=4, dev=2, digits=[0, 1])",
    "model": {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4},
    "defense": "sat",
    "attacks": ["clean", "bim(steps=4)"],
    "recipe": {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 4},
    "runtime": {"workers": 1, "device": "cpu"},
}


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "scenes.yaml").write_text(yaml.safe_dump(SCENES))
    page = (DOCS / "leaderboard.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 9
    for command in commands:
        arguments = shlex.split(command)[1:]
        for index, argument in enumerate(arguments):
            if argument.endswith("pspnet-encoder-tiny-sat.json"):
                (made,) = Path("entries").rglob("*.json")
                arguments[index] = str(made)
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
    (entry,) = entry_files.load([Path("entries")])
    assert entry.status == "verified"
    assert (tmp_path / "site" / "index.html").is_file()


def test_the_workflow_of_the_page_checks_before_it_publishes() -> None:
    text = re.search(r"```yaml\n(.*?)```", (DOCS / "leaderboard.md").read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    jobs = yaml.safe_load(text[1])["jobs"]
    steps = [step.get("run", "") for step in jobs["check"]["steps"]]
    assert steps.index("segbench leaderboard check entries") < steps.index(
        "segbench leaderboard build entries --out site"
    )
    assert jobs["deploy"]["needs"] == "check"
