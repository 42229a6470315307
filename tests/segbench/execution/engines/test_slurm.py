"""A real SLURM: the report of a run there is that of a local run, whatever happens to its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segbench.store import Store
from segbench.store.running import Running
from segbench.store.status import status

LONG = {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 500}


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "segbench", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder)


def until(what: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)
    return found


def at_work(store: Store) -> Callable[[], list[Running]]:
    """Look for trainings that have a checkpoint."""
    return lambda: [job for job in store.running() if (store.train_dir(job.key) / "checkpoint.pt").is_file()]


def task_of(store: Store, key: str) -> str:
    return next(task.name for task in store.tasks() if task.key == key)


@pytest.mark.slow
def test_requeued_cancelled_and_after_a_node_s_death_the_report_is_the_same(
    slurm: Any, small: Callable[..., Path], report_of: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    matrix = small(tmp_path, recipe=LONG, attacks=["clean"])
    local = start("run", str(matrix), "--store", "local", folder=tmp_path)
    store = Store(tmp_path / "cluster")
    run = start("run", str(matrix), "--store", "cluster", "--engine", "slurm", folder=tmp_path)

    first = until(at_work(store))[0]
    subprocess.run(["scontrol", "requeue", task_of(store, first.key)], check=True)
    until(lambda: not any(job.key == first.key for job in store.running()))
    assert store.checkpoint(first.key) is not None, "a task that is asked to end keeps its checkpoint"

    other = until(lambda: [job for job in at_work(store)() if job.key != first.key])[0]
    subprocess.run(["scancel", task_of(store, other.key)], check=True)

    node = until(lambda: [job for job in at_work(store)() if job.key == first.key])[0]
    slurm.kill_node(node_of(node.process))
    output, _ = run.communicate(timeout=400)
    assert run.returncode == 0, output
    assert "vanished" in output
    told, _ = local.communicate(timeout=400)
    assert local.returncode == 0, told
    assert report_of(tmp_path / "cluster") == report_of(tmp_path / "local")


def node_of(process: int) -> str:
    words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next(word.decode().partition("=")[2] for word in words if word.startswith(b"SLURMD_NODENAME="))


@pytest.mark.slow
def test_a_detached_run_goes_on_alone_and_is_collected_later(
    slurm: Any, small: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("n1", "n2"):
        slurm.revive(name)
    matrix = small(tmp_path, defenses=["none"], attacks=["clean"])
    options = ["run", str(matrix), "--store", "runs", "--engine", "slurm"]
    submitted = start(*options, "--detach", "--json", folder=tmp_path)
    output, _ = submitted.communicate(timeout=120)
    assert submitted.returncode == 0, output
    assert len(json.loads(output[output.index("{") :])["submitted"]) == 2
    store = Store(tmp_path / "runs")
    until(lambda: all(matrix.left == matrix.running == 0 for matrix in status(store).matrices))
    told, _ = start("status", "runs", "--json", folder=tmp_path).communicate(timeout=60)
    assert [(matrix["left"], matrix["done"]) for matrix in json.loads(told)["matrices"]] == [(0, 2)]
    collected = start(*options, folder=tmp_path)
    output, _ = collected.communicate(timeout=120)
    assert collected.returncode == 0, output
    assert "2 done already, 0 jobs to run" in output


def test_without_slurm_the_engine_says_so(
    small: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from segbench import cli
    from segbench.errors import SegbenchError

    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["run", str(small(tmp_path)), "--store", str(tmp_path / "runs"), "--engine", "slurm"]
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, SegbenchError)
    assert "this machine has no sbatch, squeue, scancel" in str(result.exception)
    assert not os.path.exists(tmp_path / "runs" / "matrices")
