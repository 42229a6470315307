"""Benchmarks run at a tiny size, so that they cannot rot; their figures mean something only at a larger one."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segbench.config.load import load_matrix
from segbench.execution.board import pending
from segbench.execution.prepare import tentative_plan
from segbench.store import Store

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = "pspnet(encoder=tiny, widths=[4, 4, 6, 6], bins=[1, 2], channels=4)"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    """Run a benchmark and return the lines that it prints."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(name: str, *options: str) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", [name, *options])
        importlib.import_module(name).main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.mark.slow
def test_attacks_are_timed_beside_bare_passes(lines: Callable[..., list[dict[str, Any]]]) -> None:
    found = {line["what"]: line for line in lines("attack_time", "--model", SMALL, "--size", "17", "--rounds", "1")}
    assert found["BIM-6"]["of bare passes"] > 0
    assert found["SEA"]["passes"] == 3 * 6


def test_training_steps_are_timed_beside_the_published_loop(lines: Callable[..., list[dict[str, Any]]]) -> None:
    found = lines("training_step", "--model", SMALL, "--size", "17", "--rounds", "1")
    assert [line["defense"] for line in found] == ["none", "sat", "ddcat"]
    assert all(line["of the published loop"] > 0 for line in found)


def test_one_plan_takes_a_third_of_the_passes(lines: Callable[..., list[dict[str, Any]]]) -> None:
    voc, cityscapes = lines("one_plan", "--rounds", "0")
    assert voc["ratio"] <= 1 / 3
    assert cityscapes["ratio"] <= 1 / 3


def test_a_store_of_made_up_records_leaves_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    records: Any = importlib.import_module("records")
    matrix = tmp_path / "many.yaml"
    matrix.write_text(json.dumps(records.many(200, str(tmp_path / "runs"))))
    records.fill(matrix)
    plan = tentative_plan(load_matrix(str(matrix)))
    assert len(plan.evaluations) == 200
    assert pending(plan, Store(tmp_path / "runs")).jobs == {}
