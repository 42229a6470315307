"""SLURM as an engine: trainings and sweeps as arrays of jobs, and sweeps wait for their trainings in SLURM's queue.

Jobs and their endings lie in the store, so the process that submits may go away: the next run of the same matrix finds
the arrays of the last one there and waits for those tasks of which SLURM still knows.
"""

from __future__ import annotations

import shlex
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future

from segbench.config.matrix import Runtime
from segbench.errors import SegbenchError, Stopped
from segbench.execution.board import Ended, Job
from segbench.execution.engines import remote, sbatch
from segbench.execution.engines.base import Lost
from segbench.execution.workers import Update
from segbench.plan.plan import Sweep
from segbench.store import Store
from segbench.store.arrays import Task

LARGEST = 1000
"""Tasks of an array; SLURM's own limit is 1001 by default."""
ASK_EVERY = 10.0
"""Seconds between two questions to SLURM."""
AT_ONCE = 8
"""Tasks that are taken to run at once where `array_parallelism` does not say."""
available = sbatch.available


def at_once(runtime: Runtime) -> int:
    """Return how many tasks run at once, as far as that is known."""
    given = runtime.slurm.get("array_parallelism", runtime.slurm.get("array-parallelism", ""))
    return max(1, int(given)) if given.isdecimal() else AT_ONCE


class SlurmEngine:
    """Submits jobs and waits for what they leave in the store.

    Args:
        store: on a folder that the nodes of the cluster share.
        runtime: how jobs run; its `slurm` holds options of sbatch.
        threads: CPU threads of each job.
    """

    slots = sys.maxsize
    tries = 3
    advice = "cancelled, or its node failed: see scontrol show node, and what --slurm asks for"

    def __init__(self, store: Store, runtime: Runtime, threads: int) -> None:
        self.store, self.runtime = store, runtime
        cpus = {} if {"cpus_per_task", "cpus-per-task"} & set(runtime.slurm) else {"cpus_per_task": str(threads)}
        self.options = {**cpus, **runtime.slurm}
        self.shared = remote.envelope(runtime, threads)
        self.tasks: dict[str, Task] = {}
        self.waiting: dict[str, Future[Ended]] = {}
        self.numbers: tuple[str, ...] = ()
        self.gone: set[str] = set()
        self.arrays: set[str] = set()
        self.told: list[Update | str] = []
        self.heard: dict[str, float] = {}
        self.asked = 0.0
        self.deaf = False

    def __enter__(self) -> SlurmEngine:
        return self

    def __exit__(self, *error: object) -> None:
        left = {task.array for task in self.store.tasks()}
        for name in self.arrays - left:
            self.store.drop_array(name)

    def offer(self, jobs: Mapping[str, Job]) -> None:
        """Submit all jobs that are not in SLURM's queue already; sweeps depend on their trainings there."""
        self.store.stop_file.unlink(missing_ok=True)
        queued = sbatch.alive()
        if queued is None:
            raise SegbenchError("--engine slurm: SLURM does not answer (squeue); try again when sinfo does")
        for task in self.store.tasks():
            self.arrays.add(task.array)
            if task.name not in queued:
                self.store.write_task_ended(task, {"vanished": True})
            elif task.key in jobs:
                self.tasks[task.key] = task
        new = {key: job for key, job in jobs.items() if key not in self.tasks}
        trainings = {key: job for key, job in new.items() if not isinstance(job, Sweep)}
        self._submit(trainings)
        sweeps: dict[tuple[str, ...], dict[str, Job]] = {}
        for key, job in new.items():
            if isinstance(job, Sweep):
                needs = {cell.digest for cell in (job.source, *job.targets)}
                after = tuple(sorted(self.tasks[digest].name for digest in needs if digest in self.tasks))
                sweeps.setdefault(after, {})[key] = job
        for after, group in sweeps.items():
            self._submit(group, after)
        self.numbers = tuple(dict.fromkeys(task.number for task in self.tasks.values()))

    def submit(self, key: str, job: Job) -> Future[Ended]:
        """Wait for a job that is in the queue, or submit it."""
        early = key in self.tasks and (self.store.task_ended(self.tasks[key]) or {}).get("error") == remote.NOT_READY
        if early or key not in self.tasks:
            self._submit({key: job})
        future: Future[Ended] = Future()
        self.waiting[key] = future
        return future

    def news(self) -> Iterable[Update | str]:
        """Look at the store and, now and then, at SLURM's queue; settle what ended or vanished."""
        for key in list(self.waiting):
            self._look(key)
        if time.monotonic() - self.asked > ASK_EVERY:
            self.asked = time.monotonic()
            self._ask()
        told, self.told = self.told, []
        return told

    def stop(self) -> None:
        """Cancel all tasks; those that run write their checkpoints first."""
        sbatch.cancel(task.name for task in self.tasks.values())
        for future in self.waiting.values():
            future.set_exception(Stopped())
        for task in self.tasks.values():
            self.store.write_task_ended(task, {"stopped": True})
        self.waiting.clear()

    def _submit(self, jobs: Mapping[str, Job], after: tuple[str, ...] = ()) -> None:
        listed_jobs = list(jobs.items())
        for first in range(0, len(listed_jobs), LARGEST):
            part = listed_jobs[first : first + LARGEST]
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
            listed = [{"key": key, "label": job.label, "job": remote.sent(job)} for key, job in part]
            self.store.write_array(name, self.shared, listed)
            folder = self.store.array_dir(name).resolve()
            words = [
                sys.executable,
                "-m",
                "segbench.execution.engines.slurm_task",
                str(self.store.root.resolve()),
                name,
            ]
            number = sbatch.submit(f"#!/bin/bash\nexec {shlex.join(words)}\n", folder, len(part), self.options, after)
            self.store.submitted(name, number)
            self.arrays.add(name)
            for index, (key, job) in enumerate(part):
                self.tasks[key] = Task(name, number, index, key, job.label)

    def _look(self, key: str) -> None:
        """Settle a job whose task ended, and tell how far it is."""
        task = self.tasks[key]
        ended = self.store.task_ended(task)
        if ended is not None:
            future = self.waiting.pop(key)
            del self.tasks[key]
            if ended.get("stopped") or ended.get("error") == remote.NOT_READY:
                future.set_exception(Lost("came before its trainings" if "error" in ended else "was stopped"))
            else:
                future.set_result(Ended(ended.get("error"), said=tuple(ended.get("said", ()))))
            return
        running = self.store.running_job(key)
        if running is not None and running.heard != self.heard.get(key) and running.total:
            self.heard[key] = running.heard
            self.told.append(Update(key, running.process, running.done, running.total, running.note))

    def _ask(self) -> None:
        """Ask SLURM which tasks it still has; one that it has not, twice in a row, and that did not end, vanished."""
        queued = sbatch.alive()
        if queued is None:
            if not self.deaf:
                self.told.append("SLURM does not answer; jobs go on, and so does waiting for them")
            self.deaf = True
            return
        self.deaf = False
        for key in list(self.waiting):
            task = self.tasks[key]
            if task.name in queued:
                self.gone.discard(task.name)
            elif task.name not in self.gone:
                self.gone.add(task.name)
            elif self.store.task_ended(task) is None:
                future = self.waiting.pop(key)
                del self.tasks[key]
                self.store.write_task_ended(task, {"vanished": True})
                future.set_exception(Lost(self._reason(task)))

    def _reason(self, task: Task) -> str:
        verdict = sbatch.verdict(task.name)
        lines = self.store.output(task).strip().splitlines()
        told = f" ({verdict})" if verdict else f" (its last line: {lines[-1][:200]})" if lines else ""
        return f"SLURM's job {task.name} vanished{told}"
