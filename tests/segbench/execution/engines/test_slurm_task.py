from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segbench.config.load import load_matrix
from segbench.errors import Stopped
from segbench.execution.engines import remote
from segbench.execution.engines.remote import NOT_READY, Ear
from segbench.execution.prepare import tentative_plan
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
    listed = [{"key": job.digest, "label": job.label, "job": remote.sent(job)}]
    store.write_array("a", remote.envelope(matrix.runtime, 1), listed)
    store.submitted("a", "7")
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    told = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
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
    ear = Ear(store.stop_file, threading.Event())
    shared = remote.envelope(matrix.runtime, 1)
    sweep = plan.sweeps[0]
    assert remote.do(shared, sweep.key, remote.sent(sweep), ear).error == NOT_READY
    store.write_training_failure(sweep.source.digest, MemoryError("too small"), {})
    error = remote.do(shared, sweep.key, remote.sent(sweep), ear).error
    assert error is not None
    assert "could not be trained: MemoryError: too small" in error
    record = store.record(sweep.cells[0].digest)
    assert record is not None
    assert record.status == "failed"


def test_a_file_in_the_store_stops_a_job(small: Callable[..., Path], tmp_path: Path) -> None:
    matrix = load_matrix(str(small(tmp_path, recipe=LONG)), [f"runtime.store={tmp_path / 'runs'}"])
    job = tentative_plan(matrix).trainings[0]
    store = Store(matrix.runtime.store)
    store.ask_to_stop()
    ear = Ear(store.stop_file, threading.Event())
    with pytest.raises(Stopped):
        remote.do(remote.envelope(matrix.runtime, 1), job.digest, remote.sent(job), ear)
    assert store.trained(job.digest) is None
