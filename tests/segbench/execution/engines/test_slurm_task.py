from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from segbench.config.load import load_matrix
from segbench.errors import Stopped
from segbench.execution.board import Ended
from segbench.execution.engines import remote, slurm_task
from segbench.execution.engines.base import Refused, Unfit
from segbench.execution.engines.remote import Ear
from segbench.execution.prepare import tentative_plan
from segbench.execution.workers import Update
from segbench.plan.as_data import job_to_plain
from segbench.store import Store
from segbench.store.arrays import Task

LONG = {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 100_000}


@pytest.mark.slow
def test_before_the_time_limit_a_task_keeps_a_checkpoint_and_goes_back_into_the_queue(
    small: Callable[..., Path], tmp_path: Path
) -> None:
    matrix = load_matrix(str(small(tmp_path, recipe=LONG)), [f"runtime.store={tmp_path / 'runs'}"])
    job = tentative_plan(matrix).trainings[0]
    store = Store(matrix.runtime.store)
    listed = [{"key": job.digest, "label": job.label, "job": job_to_plain(job)}]
    store.write_array("a", remote.envelope(matrix.runtime, 1), listed)
    store.submitted("a", "7")
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    told = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
    told["SLURMD_NODENAME"] = "n1"
    command = [sys.executable, "-m", "segbench.execution.engines.slurm_task", str(store.root), "a"]
    task = subprocess.Popen(command, env={**os.environ, **told})
    deadline = time.monotonic() + 200
    while store.running_job(job.digest) is None or store.checkpoint(job.digest) is None:
        assert task.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    written = (store.train_dir(job.digest) / "checkpoint.pt").stat().st_mtime_ns
    task.send_signal(signal.SIGUSR1)
    assert task.wait(timeout=100) == 0
    assert (tmp_path / "asked").read_text().split() == ["requeue", "7_0"]
    assert (store.train_dir(job.digest) / "checkpoint.pt").stat().st_mtime_ns >= written
    assert store.task_ended(Task("a", "7", 0, job.digest, job.label)) is None
    assert store.running() == []


def test_a_sweep_that_comes_before_its_trainings_says_so(small: Callable[..., Path], tmp_path: Path) -> None:
    matrix = load_matrix(str(small(tmp_path)), [f"runtime.store={tmp_path / 'runs'}"])
    plan = tentative_plan(matrix)
    store = Store(matrix.runtime.store)
    ear = Ear(threading.Event())
    shared = remote.envelope(matrix.runtime, 1)
    sweep = plan.sweeps[0]
    with pytest.raises(Refused, match="does not see the networks"):
        remote.do(shared, sweep.key, job_to_plain(sweep), ear)
    store.write_training_failure(sweep.source.digest, MemoryError("too small"), {})
    error = remote.do(shared, sweep.key, job_to_plain(sweep), ear).error
    assert error is not None
    assert "could not be trained: MemoryError: too small" in error
    record = store.record(sweep.cells[0].digest)
    assert record is not None
    assert record.status == "failed"


def test_a_sweep_waits_until_its_machine_sees_what_another_has_trained(
    small: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = load_matrix(str(small(tmp_path)), [f"runtime.store={tmp_path / 'runs'}"])
    sweep, store = tentative_plan(matrix).sweeps[0], Store(matrix.runtime.store)

    def seen(seconds: float) -> None:  # a file that another machine wrote some time ago
        store.write_training_failure(sweep.source.digest, MemoryError("too small"), {})

    monkeypatch.setattr(time, "sleep", seen)
    shared, ear = remote.envelope(matrix.runtime, 1), Ear(threading.Event())
    assert "too small" in str(remote.do(shared, sweep.key, job_to_plain(sweep), ear, patience=60.0).error)


def test_a_machine_with_another_segbench_refuses_a_job(
    small: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = load_matrix(str(small(tmp_path)), [f"runtime.store={tmp_path / 'runs'}"])
    job = tentative_plan(matrix).trainings[0]
    shared, ear = remote.envelope(matrix.runtime, 1), Ear(threading.Event())
    monkeypatch.setattr(remote, "code", lambda: "another")
    with pytest.raises(Unfit, match="has another segbench"):
        remote.do(shared, job.digest, job_to_plain(job), ear)
    assert not (tmp_path / "runs").exists()


def test_a_file_in_the_store_stops_a_job(small: Callable[..., Path], tmp_path: Path) -> None:
    matrix = load_matrix(str(small(tmp_path, recipe=LONG)), [f"runtime.store={tmp_path / 'runs'}"])
    job = tentative_plan(matrix).trainings[0]
    store = Store(matrix.runtime.store)
    (tmp_path / "stop").touch()
    ear = Ear(threading.Event(), tmp_path / "stop")
    with pytest.raises(Stopped):
        remote.do(remote.envelope(matrix.runtime, 1), job.digest, job_to_plain(job), ear)
    assert store.trained(job.digest) is None


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Run a task of an array "a" of four, beside "b" of one, "c" that runs otherwise, and one that does not wait."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    store = Store(tmp_path / "runs")
    for number, (name, keys) in enumerate({"a": "0123", "b": "4", "c": "5", "d": "6"}.items(), 1):
        listed = [{"key": key, "label": key, "job": {"is": key}} for key in keys]
        store.write_array(name, {"how": "otherwise" if name == "c" else "so"}, listed)
        store.submitted(name, str(number))
    waiting = "\\n".join(("1_1", "1_2", "1_3", "2_0", "3_0"))
    scripts = {
        "squeue": f'printf "{waiting}\\n"',
        "scancel": f'echo "$@" >> {tmp_path}/cancelled',
        "scontrol": f'echo "$@" >> {tmp_path}/asked',
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    monkeypatch.setattr(slurm_task, "PAUSE", 0.0)

    def run(how: Callable[[str, int], Ended], steps: Sequence[int] = (1,)) -> list[str]:
        did: list[str] = []

        def do(shared: Any, key: str, plain: Any, ear: Ear, patience: float = 0.0) -> Ended:
            assert (shared, plain) == ({"how": "so"}, {"is": key})
            did.append(key)
            for done in (0, *steps):
                ear.send(Update(key, 0, done, 9, ""))
            ended = how(key, did.count(key))
            if ear.stopping():
                raise Stopped
            return ended

        monkeypatch.setattr(remote, "do", do)
        slurm_task.main(str(store.root), "a")
        return did

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(folder: Path) -> dict[str, str | None]:
    store = Store(folder / "runs")
    tasks = [Task(name, "", index, "", "") for name, count in (("a", 4), ("b", 1), ("c", 1)) for index in range(count)]
    found = {f"{task.array}{task.index}": store.task_ended(task) for task in tasks}
    return {name: content.get("error") for name, content in found.items() if content is not None}


def test_a_task_goes_on_with_jobs_that_wait_and_run_as_it_does(node: Callable[..., list[str]], tmp_path: Path) -> None:
    assert node(lambda key, times: Ended("too small" if key == "2" else None)) == ["0", "3", "2", "1", "4"]
    assert ended(tmp_path) == {"a0": None, "a1": None, "a2": "too small", "a3": None, "b0": None}
    assert (tmp_path / "cancelled").read_text().split() == ["1_3", "1_2", "1_1", "2_0"]


def test_what_waits_for_a_training_begins_while_its_task_goes_on(
    node: Callable[..., list[str]], tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    store.submitted("b", "2", ["1_0"])
    store.submitted("c", "3", ["1_0", "1_9", "1_2"])
    node(lambda key, times: Ended())
    asked = (tmp_path / "asked").read_text().splitlines()
    assert sorted(asked) == ["update JobId=2 Dependency=", "update JobId=3 Dependency=afterany:1_2"]


def test_what_is_not_ready_or_done_elsewhere_stays_in_the_queue(node: Callable[..., list[str]], tmp_path: Path) -> None:
    def how(key: str, times: int) -> Ended:
        if key == "4":
            raise Refused
        return Ended(elsewhere=key == "3")

    did = node(how)
    assert did == ["0", "3", "2", "1", "4", "3", "4"], "once more after a round in which something was done"
    assert ended(tmp_path) == dict.fromkeys(("a0", "a1", "a2"))


def test_a_task_whose_job_another_does_goes_on_meanwhile_and_waits_for_it(
    node: Callable[..., list[str]], tmp_path: Path
) -> None:
    did = node(lambda key, times: Ended(elsewhere=key == "0" and times < 3))
    assert did == ["0", "3", "2", "1", "4", "0", "0"]
    assert ended(tmp_path) == dict.fromkeys(("a0", "a1", "a2", "a3", "b0"))


def test_a_job_of_another_that_is_stopped_is_left_to_its_task(node: Callable[..., list[str]], tmp_path: Path) -> None:
    def how(key: str, times: int) -> Ended:
        if key == "2":
            signal.raise_signal(signal.SIGUSR1)
        return Ended()

    assert node(how) == ["0", "3", "2"]
    assert ended(tmp_path) == {"a0": None, "a3": None}


@pytest.mark.parametrize("steps", [(), (0, 1)], ids=["no step was done", "a step was done"])
def test_a_time_limit_that_allows_no_step_is_told(
    node: Callable[..., list[str]], tmp_path: Path, steps: Sequence[int]
) -> None:
    def how(key: str, times: int) -> Ended:
        signal.raise_signal(signal.SIGUSR1)
        return Ended()

    node(how, steps)
    found = Store(tmp_path / "runs").task_ended(Task("a", "1", 0, "0", "0"))
    assert found == (None if steps else {"stopped": slurm_task.TOO_SHORT})
    assert (tmp_path / "asked").exists() == bool(steps), "only what goes on is put back into the queue"


@pytest.mark.parametrize(("kind", "more"), [(Refused, {}), (Unfit, {"unfit": "n1"})])
def test_a_node_that_can_do_no_job_says_so(
    kind: type[Refused], more: dict[str, str], node: Callable[..., list[str]], tmp_path: Path
) -> None:
    def how(key: str, times: int) -> Ended:
        raise kind("not here")

    node(how)
    store, task = Store(tmp_path / "runs"), Task("a", "1", 0, "0", "0")
    assert store.begun(task) == "n1"
    assert store.task_ended(task) == {"refused": "not here", **more}


def test_long_jobs_are_left_to_their_tasks(
    node: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_task, "GO_ON", 0.0)
    assert node(lambda key, times: Ended()) == ["0"]
    assert ended(tmp_path) == {"a0": None}
