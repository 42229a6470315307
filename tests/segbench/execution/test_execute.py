from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from segbench.config.matrix import Matrix
from segbench.errors import Stopped
from segbench.execution import execute, shards, work
from segbench.execution.board import Ended, Job, pending
from segbench.execution.prepare import tentative_plan
from segbench.plan.plan import Plan
from segbench.reports.records import Record
from segbench.store import Store

Run = Callable[[Matrix, Any], list[Record]]


@pytest.fixture
def run(run_plan: Callable[..., list[Record]]) -> Run:
    return lambda matrix, display: run_plan(
        tentative_plan(matrix), Store(matrix.runtime.store), matrix.runtime, display
    )


def test_everything_is_done_once(tiny_matrix: Callable[..., Matrix], run: Run, silent: type[Any]) -> None:
    matrix = tiny_matrix()
    first = silent()
    records = run(matrix, first)
    assert {record.status for record in records} == {"done"}
    assert first.cached == 0
    assert len(first.finished) == len(first.jobs) == 4 + 8
    second = silent()
    assert run(matrix, second) == records
    assert second.jobs == {}
    assert second.cached == second.cells == 4 + len(records)


def test_a_failed_training_takes_only_its_dependants_down_and_is_tried_again(
    tiny_matrix: Callable[..., Matrix], run: Run, silent: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = tiny_matrix()
    real = work.run_training

    def fail(cell: Any, *arguments: Any, **options: Any) -> None:
        if cell.model.name == "deeplabv3" and cell.defense.name == "sat":
            raise MemoryError("no memory left")
        real(cell, *arguments, **options)

    monkeypatch.setattr(work, "run_training", fail)
    records = run(matrix, silent())
    for record in records:
        touched = any(n.model.name == "deeplabv3" and n.defense.name == "sat" for n in (record.target, record.source))
        assert record.status == ("failed" if touched else "done")
        if touched:
            assert "no memory left" in str(record.error)
    store = Store(matrix.runtime.store)
    failed = next(c for c in tentative_plan(matrix).trainings if c.label.endswith("sat seed 0") and "deep" in c.label)
    assert "MemoryError" in (store.train_dir(failed.digest) / "traceback.txt").read_text()

    monkeypatch.setattr(work, "run_training", real)
    assert {record.status for record in run(matrix, silent())} == {"done"}


def test_who_is_asked_to_end_stops_and_keeps_what_is_done(
    tiny_matrix: Callable[..., Matrix], run: Run, silent: type[Any]
) -> None:
    matrix = tiny_matrix()

    class Interrupting(silent):  # type: ignore[misc, valid-type]
        def finish(self, job: str, cells: int, error: str | None) -> None:
            super().finish(job, cells, error)
            os.kill(os.getpid(), signal.SIGTERM)

    display = Interrupting()
    with pytest.raises(Stopped):
        run(matrix, display)
    assert len(display.finished) == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    again = silent()
    records = run(matrix, again)
    assert again.cached == 1
    assert {record.status for record in records} == {"done"}


def test_costly_trainings_come_first(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    board = pending(tiny_plan(defenses=["none", "ddcat", "sat"]), Store(tmp_path))
    assert [c.defense.name for c in board.trainings.values()] == ["ddcat"] * 2 + ["sat"] * 2 + ["none"] * 2


def test_a_sweep_waits_for_its_networks(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    board = pending(tiny_plan(), Store(tmp_path))
    trainings = dict(board.trainings)
    assert [board.take() for _ in trainings] == list(trainings.items())
    assert board.take() is None
    digest = next(iter(trainings))
    own = [key for key, sweep in board.sweeps.items() if {c.digest for c in (sweep.source, *sweep.targets)} == {digest}]
    for key, sweep in board.settled(digest):
        board.put_back(key, sweep)
    assert own == [board.take()[0] for _ in own]  # type: ignore[index]
    assert board.take() is None


def test_what_another_process_does_is_tried_again_later(
    tiny_plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = pending(tiny_plan(), Store(tmp_path))
    first = board.take()
    assert first is not None
    board.put_back(*first, pause=60)
    rest = [key for key, _ in iter(board.take, None)]
    assert rest
    assert first[0] not in rest
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert board.take() == first


def test_the_time_for_handing_out_jobs_grows_with_their_number(
    tiny_plan: Callable[..., Plan], tmp_path: Path, silent: type[Any]
) -> None:
    attacks = [f"bim(alpha={number}/1000)" for number in range(1, 21)]
    plan = tiny_plan(models=["pspnet(encoder=tiny)"], attacks=attacks, seeds=list(range(300)), transfer=None)
    store = Store(tmp_path)
    store.open_for_writing()
    board = pending(plan, store)
    started = []

    class Instant:
        slots, tries, advice = 2, 2, ""

        def offer(self, jobs: Any) -> None:
            """Nothing is to be prepared."""

        def submit(self, key: str, job: Job) -> Future[Ended]:
            started.append(key)
            future: Future[Ended] = Future()
            future.set_result(Ended())
            return future

        def news(self) -> list[Any]:
            return []

    now = time.process_time()
    execute._Execution(plan, board, store, Instant(), silent(), threading.Event()).go()  # type: ignore[arg-type]
    assert time.process_time() - now < 3
    assert len(started) == len(set(started)) == 300 * 2 * (1 + 20)


@pytest.mark.slow
def test_processes_give_the_same_records(
    tiny_matrix: Callable[..., Matrix], run: Run, silent: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LEAST", 10)
    matrix = tiny_matrix()
    records = run(matrix, silent())
    two = matrix.runtime.model_copy(update={"workers": 2, "store": matrix.runtime.store.with_name("two")})
    display = silent()
    others = run(matrix.model_copy(update={"runtime": two}), display)
    assert sum("images" in label for label in display.jobs.values()) > 1
    assert [record.digest for record in records] == [record.digest for record in others]
    for one, other in zip(records, others, strict=True):
        # The same thread count gives the same bits.
        if one.provenance["threads"] == other.provenance["threads"]:
            assert one.model_copy(update={"provenance": other.provenance}) == other


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(tiny_matrix: Callable[..., Matrix], run: Run, silent: type[Any]) -> None:
    matrix = tiny_matrix()
    two = matrix.runtime.model_copy(update={"workers": 2})
    killed: list[int] = []

    class Killing(silent):  # type: ignore[misc, valid-type]
        def update(self, *told: Any) -> None:
            super().update(*told)
            if not killed:
                killed.append(told[0].worker)
                os.kill(told[0].worker, signal.SIGKILL)

    records = run(matrix.model_copy(update={"runtime": two}), Killing())
    assert killed
    assert {record.status for record in records} == {"done"}
