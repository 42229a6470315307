"""A run tells its store what it does, shows all of it on its display, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segbench.errors import Stopped
from segbench.execution import telling
from segbench.execution.workers import Update
from segbench.plan.plan import Plan
from segbench.store import Store
from segbench.store.running import running


def test_the_store_knows_the_jobs_under_way(
    tiny_plan: Callable[..., Plan], tmp_path: Path, silent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "EVERY", 0.0)
    plan, store, display = tiny_plan(), Store(tmp_path / "runs"), silent()
    training, sweep = plan.trainings[0].digest, plan.sweeps[-1]

    def jobs() -> list[Any]:
        return [job for told in running(store) for job in told["jobs"]]

    with telling.telling(plan, store, display) as told:
        told.start({training: "a training", sweep.key: "a sweep"}, 2, 0, {})
        assert [each["matrix"] for each in running(store)] == [plan.matrix.name]
        told.update(Update(training, 1, 3, 9, "loss 1.0"))
        told.update(Update(sweep.key, 1, 1, 5, "mIoU 2.0"))
        told.update(Update(sweep.key, 1, 2, 5, "mIoU 1.0"))
        first, second = jobs()
        assert (first["label"], first["done"], first["total"], first["evaluations"]) == ("a training", 3, 9, [])
        assert (second["done"], second["note"]) == (2, "mIoU 1.0")
        assert second["evaluations"] == [cell.digest for cell in sweep.cells]
        told.finish(training, 1, None)
        assert [job["job"] for job in jobs()] == [sweep.key]
    assert running(store) == []
    assert not (store.cache_dir / "running").exists()
    assert [heard[0].job for heard in display.heard] == [training, sweep.key, sweep.key]
    assert display.finished == {training: None}


def test_a_run_that_breaks_is_forgotten(tiny_plan: Callable[..., Plan], tmp_path: Path, silent: Any) -> None:
    store = Store(tmp_path / "runs")

    def broken() -> None:
        with telling.telling(tiny_plan(), store, silent()) as told:
            told.start({}, 0, 0, {})
            raise Stopped

    with pytest.raises(Stopped):
        broken()
    assert running(store) == []


def test_a_store_that_cannot_be_written_does_not_stop_a_run(
    tiny_plan: Callable[..., Plan], tmp_path: Path, silent: Any
) -> None:
    store = Store(tmp_path / "runs")
    store.root.mkdir()
    (store.root / "cache").write_text("a file")
    with telling.telling(tiny_plan(), store, silent()) as told:
        told.start({}, 0, 0, {})
    assert running(store) == []
