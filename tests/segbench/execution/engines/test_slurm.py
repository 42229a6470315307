"""A real SLURM: the report of a run there is that of a local run, whatever happens to its jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segbench.config.load import load_matrix
from segbench.errors import SegbenchError, Stopped
from segbench.execution import execute
from segbench.execution.board import Ended
from segbench.execution.engines.base import Lost
from segbench.execution.engines.slurm import SCRIPT, SlurmEngine
from segbench.execution.prepare import tentative_plan
from segbench.plan.plan import Plan
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

    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["run", str(small(tmp_path)), "--store", str(tmp_path / "runs"), "--engine", "slurm"]
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, SegbenchError)
    assert "this machine has no sbatch, squeue, scancel" in str(result.exception)
    assert not os.path.exists(tmp_path / "runs" / "matrices")


@pytest.fixture
def plan(small: Callable[..., Path], tmp_path: Path) -> Plan:
    return tentative_plan(
        load_matrix(str(small(tmp_path, defenses=["none"])), [f"runtime.store={tmp_path / 'a store'}"])
    )


@pytest.fixture
def jobs(plan: Plan) -> dict[str, Any]:
    return {**{cell.digest: cell for cell in plan.trainings}, **{sweep.key: sweep for sweep in plan.sweeps}}


@pytest.fixture
def cluster(
    plan: Plan, jobs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], SlurmEngine]:
    """Return makers of engines on one store, with commands that number arrays and keep them in the queue for ever."""
    (tmp_path / "bin").mkdir()
    scripts = {
        "sbatch": 'echo "$@" >> asked; n=$(wc -l < asked); [ "$n" -le "${MOST:-9}" ] || { echo full >&2; exit 1; }\n'
        '[ "$n" != "$INTERRUPT" ] || kill -INT $PPID\n'
        'printf "%s_0 PD None\n%s_1 PD Dependency\n" $n $n >> queue; echo $n',
        "squeue": 'case "$*" in *states=all*) cat endings;; *) cat queue;; esac 2>/dev/null; true',
        "scontrol": 'echo "$@" >> updated',
        "scancel": 'echo "$@" >> cancelled',
    }
    for name, script in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    runtime = plan.matrix.runtime

    def made(offered: bool = True) -> SlurmEngine:
        engine = SlurmEngine(Store(runtime.store), runtime, 1)
        if offered:
            engine.offer(jobs)
        return engine

    return made


def test_a_second_process_waits_for_what_the_first_has_submitted(
    cluster: Callable[..., SlurmEngine], tmp_path: Path
) -> None:
    first = cluster()
    asked = (tmp_path / "asked").read_text()
    assert "--dependency=afterany:1_0" in asked.splitlines()[1]
    second = cluster()
    assert second.tasks == first.tasks
    assert (tmp_path / "asked").read_text() == asked, "nothing is submitted twice"
    key, task = next(iter(first.tasks.items()))
    futures = [engine.submit(key, None) for engine in (first, second)]  # type: ignore[arg-type] - it is there
    first.store.write_task_ended(task, {"error": "too small", "said": ["a line"]})
    list(first.news())
    first.__exit__()
    list(second.news())
    assert [future.result(timeout=0) for future in futures] == 2 * [Ended("too small", said=("a line",))]


def test_what_slurm_takes_in_part_is_taken_back(
    cluster: Callable[..., SlurmEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOST", "1")
    engine = cluster(offered=False)
    with pytest.raises(SegbenchError, match=r"refuses the jobs \(full\)"):
        cluster()
    assert (tmp_path / "cancelled").read_text().split() == ["1_0"]
    assert engine.store.tasks() == []
    assert not list((tmp_path / "a store" / "cache" / "slurm").glob("*/jobs.json"))


@pytest.mark.parametrize("how", [execute.run, execute.submit])
def test_ctrl_c_while_jobs_are_submitted_cancels_them_all(
    how: Callable[..., Any], cluster: Any, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERRUPT", "1")  # as a terminal does: every process of its group hears it
    runtime = plan.matrix.runtime.model_copy(update={"engine": "slurm"})
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped):
        how(plan, Store(runtime.store), runtime, execute.SILENT)
    assert signal.getsignal(signal.SIGINT) == before
    submitted = {line.split()[0] for line in (tmp_path / "queue").read_text().splitlines()}
    assert len(submitted) > 1
    assert set((tmp_path / "cancelled").read_text().split()) <= submitted
    assert Store(runtime.store).tasks() == []


def test_jobs_that_nobody_waits_for_any_more_leave_the_queue(
    cluster: Callable[..., SlurmEngine], tmp_path: Path
) -> None:
    with cluster() as engine:
        key, training = next(iter(engine.tasks.items()))
        engine.submit(key, None)  # type: ignore[arg-type] - it is there
        engine.store.write_task_ended(training, {"error": "too small"})
        left = [task.name for task in engine.tasks.values() if task != training]
        list(engine.news())
    assert left
    assert (tmp_path / "cancelled").read_text().split() == left
    assert engine.store.tasks() == []
    assert status(engine.store).waiting == ()


def test_what_stops_the_waiting_leaves_jobs_in_the_queue(cluster: Callable[..., SlurmEngine], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk is full"), cluster() as engine:
        raise OSError("the disk is full")
    assert not (tmp_path / "cancelled").exists()
    assert len(engine.store.tasks()) == len(engine.tasks)


def test_why_jobs_wait_is_told_once(cluster: Callable[..., SlurmEngine], tmp_path: Path) -> None:
    engine = cluster()
    for key in engine.tasks:
        engine.submit(key, None)  # type: ignore[arg-type] - it is there
    for reason, told in (
        ("Resources", []),
        ("PartitionTimeLimit", ["SLURM keeps 1 job waiting (PartitionTimeLimit); see scontrol show job 1_0"]),
        ("PartitionTimeLimit", []),
    ):
        lines = [f"{task.name} PD {'None' if task.name != '1_0' else reason}" for task in engine.tasks.values()]
        (tmp_path / "queue").write_text("\n".join(lines))
        engine.asked = -1e9
        assert [line for line in engine.news() if isinstance(line, str)] == told


def test_a_node_without_this_python_says_so(tmp_path: Path) -> None:
    script = SCRIPT.format(tmp_path / "bin" / "python", "store array")
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, env={"SLURMD_NODENAME": "n7"})
    assert done.returncode == 1
    assert done.stdout == f"n7 has no {tmp_path}/bin/python, the Python that submitted the job\n"


def vanish(engine: SlurmEngine, folder: Path, ending: str) -> tuple[str, str, list[Any]]:
    """Let the queue lose a job that was submitted; return its key, why it was lost, and what was told."""
    key, task = next(iter(engine.tasks.items()))
    future = engine.submit(key, None)  # type: ignore[arg-type] - it is there
    (folder / "endings").write_text(f"{task.name} {ending}")
    (folder / "queue").write_text("".join(f"{own.name} PD None\n" for own in engine.tasks.values() if own != task))
    told: list[Any] = []
    for _ in range(2):
        engine.asked = -1e9
        told += engine.news()
    error = future.exception(timeout=0)
    return key, f"{type(error).__name__}: {error}", told


def test_a_node_where_segbench_cannot_begin_gets_no_more_jobs(
    cluster: Callable[..., SlurmEngine], jobs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = cluster()
    engine.options["exclude"] = "n[7-9]"
    first, others = next(iter(engine.tasks.values())), {task.number for task in engine.tasks.values()}
    engine.store.write_task_begun(first, "n2")  # before it was put back into the queue
    engine.store.output_file(first).write_text("Traceback\nModuleNotFoundError: No module named 'torch'\n")
    key, why, (told,) = vanish(engine, tmp_path, "FAILED n1")
    assert why == "Unfit: SLURM's job 1_0 cannot begin on n1"
    assert told.startswith("n1 gets no more jobs of this run: ModuleNotFoundError: No module named 'torch'; see ")
    assert told.endswith("/output/0.txt")
    updated = (tmp_path / "updated").read_text().splitlines()
    assert {f"update JobId={number} ExcNodeList=n[7-9],n1" for number in others - {first.number}} <= set(updated)
    engine.submit(key, jobs[key])
    assert "--exclude=n[7-9],n1" in (tmp_path / "asked").read_text().splitlines()[-1]
    monkeypatch.setenv("MOST", "0")
    left = {task.name for task in engine.tasks.values()}
    with pytest.raises(SegbenchError, match=r"refuses the jobs \(full\) without n1, which cannot run them"):
        engine.submit("another", jobs[key])
    assert set((tmp_path / "cancelled").read_text().split()) == left, "no node would ever take them"


@pytest.mark.parametrize("ending", ["FAILED n1", "CANCELLED n2", "NODE_FAIL n2", "CANCELLED n/a"])
def test_a_job_that_dies_of_itself_is_no_fault_of_its_node(
    ending: str, cluster: Callable[..., SlurmEngine], tmp_path: Path
) -> None:
    engine = cluster()
    engine.store.write_task_begun(next(iter(engine.tasks.values())), "n1")
    told = ending.removesuffix(" n/a").replace(" ", " on ")
    assert vanish(engine, tmp_path, ending)[1] == f"Lost: SLURM's job 1_0 vanished ({told})"
    assert "exclude" not in engine.options


def test_an_earlier_failure_is_not_taken_for_one_of_this_run(cluster: Callable[..., SlurmEngine]) -> None:
    engine = cluster(offered=False)
    digest = next(iter(cluster().tasks))
    engine.store.write_training_failure(digest, MemoryError("before"), {})
    for task in engine.store.tasks():
        engine.store.write_task_ended(task, {"error": "before"})
    assert digest in cluster().tasks
    assert engine.store.training_failure(digest) is None


def test_a_task_that_slurm_has_lost_can_be_submitted_again(cluster: Callable[..., SlurmEngine], tmp_path: Path) -> None:
    engine, other = cluster(), cluster()
    key, task = next(iter(engine.tasks.items()))
    future, others = (each.submit(key, None) for each in (engine, other))  # type: ignore[arg-type] - it is there
    (tmp_path / "queue").write_text("")
    for _ in range(2):
        engine.asked = -1e9
        list(engine.news())
    with pytest.raises(Lost, match="1_0 vanished"):
        future.result(timeout=0)
    assert engine.store.task_ended(task) == {"vanished": True}
    list(other.news())
    with pytest.raises(Lost, match="1_0 vanished"):
        others.result(timeout=0)
