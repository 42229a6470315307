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
from functools import cached_property

from segbench.config.matrix import Runtime
from segbench.errors import SegbenchError, Stopped
from segbench.execution.board import Ended, Job
from segbench.execution.engines import remote, sbatch
from segbench.execution.engines.base import Lost, Refused, Unfit
from segbench.execution.engines.queue import Queue
from segbench.execution.workers import Update
from segbench.files import acquire
from segbench.plan.as_data import job_to_plain
from segbench.plan.plan import Sweep
from segbench.store import Store
from segbench.store.arrays import Task

ASK_EVERY = 10.0
"""Seconds between two questions to SLURM."""
PATIENCE = 600.0
"""Seconds to wait for another process that is submitting."""
AT_ONCE = 8
"""Tasks that are taken to run at once where `array_parallelism` does not say."""
SCRIPT = """#!/bin/bash
trap '' USR1
export OMP_WAIT_POLICY=${{OMP_WAIT_POLICY:-PASSIVE}}
[ -x {0} ] || {{ echo $SLURMD_NODENAME has no {0}, the Python that submitted the job; exit 1; }}
exec {0} -m segbench.execution.engines.slurm_task {1}
"""
"""What a task runs; a signal that comes before Python hears it must not end the task."""


def options(runtime: Runtime) -> dict[str, str]:
    """Return the options of sbatch, each with _ in its name."""
    return {key.replace("-", "_"): value for key, value in runtime.slurm.items()}


def at_once(runtime: Runtime) -> int:
    """Return how many tasks run at once, as far as that is known."""
    return int(options(runtime).get("array_parallelism", AT_ONCE))


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
        self.options = {"cpus_per_task": str(threads), **options(runtime)}
        self.shared = remote.envelope(runtime, threads)
        self.tasks: dict[str, Task] = {}
        self.waiting: dict[str, Future[Ended]] = {}
        self.numbers: tuple[str, ...] = ()
        self.queue = Queue()
        self.unfit: list[str] = []
        self.told: list[Update | str] = []
        self.progress = remote.Progress(store)
        self.looked = self.asked = 0.0

    def __enter__(self) -> SlurmEngine:
        return self

    def __exit__(self, kind: object = None, *error: object) -> None:
        if kind is None:
            self._give_up()  # sweeps of networks that could not be trained
        self.store.drop_old_arrays()

    def offer(self, jobs: Mapping[str, Job]) -> None:
        """Submit all jobs that are not in SLURM's queue already; sweeps depend on their trainings there."""
        lock = self.store.submission_lock()
        acquire(lock, "submitting to SLURM", PATIENCE)
        try:
            self._find(jobs)
            new = {key: job for key, job in jobs.items() if key not in self.tasks}
            try:
                self._submit_all(new)
            except SegbenchError:
                self._take_back(new)
                raise
        finally:
            lock.release()
        self.numbers = tuple(dict.fromkeys(task.number for task in self.tasks.values()))

    def submit(self, key: str, job: Job) -> Future[Ended]:
        """Wait for a job that is in the queue, or submit it."""
        early = key in self.tasks and "refused" in (self.store.task_ended(self.tasks[key]) or {})
        if early or key not in self.tasks:
            try:
                self._submit({key: job})
            except SegbenchError as error:
                if not self.unfit:
                    raise
                self._give_up()  # what still waits, waits for a node that is not there
                raise SegbenchError(
                    f"{str(error).partition('; ')[0]} without {', '.join(self.unfit)}, which cannot run them; mend "
                    "these nodes, or ask for others with --slurm"
                ) from error
        future: Future[Ended] = Future()
        self.waiting[key] = future
        return future

    def news(self) -> Iterable[Update | str]:
        """Look at the store and, now and then, at SLURM's queue; settle what ended or vanished."""
        now = time.monotonic()
        if now - self.looked > remote.LOOK_EVERY:
            self.looked = now
            self._look()
        if now - self.asked > ASK_EVERY:
            self.asked = now
            self._ask()
        told, self.told = self.told, []
        return told

    def stop(self) -> None:
        """Cancel all tasks; those that run write their checkpoints first."""
        for future in self.waiting.values():
            future.set_exception(Stopped())
        self.waiting.clear()
        self._give_up()

    def _give_up(self) -> None:
        sbatch.cancel(task.name for task in self.tasks.values())
        for task in self.tasks.values():
            self.store.write_task_ended(task, {"stopped": "was stopped"})
        self.tasks.clear()

    def _find(self, jobs: Mapping[str, Job]) -> None:
        """Find the jobs that are in SLURM's queue already."""
        tasks = self.store.tasks()  # before SLURM is asked: what another process submits meanwhile has not vanished
        queued = sbatch.alive(patient=True)
        if queued is None:
            raise SegbenchError("--engine slurm: SLURM does not answer (squeue); try again when sinfo does")
        for task in tasks:
            if task.name in queued:
                self.tasks |= {task.key: task} if task.key in jobs else {}
            elif self.store.task_ended(task) is None:
                self.store.write_task_ended(task, {"vanished": True})

    def _submit_all(self, jobs: Mapping[str, Job]) -> None:
        trainings = {key: job for key, job in jobs.items() if not isinstance(job, Sweep)}
        for digest in trainings:
            self.store.forget_failure(digest)  # its sweeps would take it for one of this run
        self._submit(trainings)
        sweeps: dict[tuple[str, ...], dict[str, Job]] = {}
        for key, job in jobs.items():
            if isinstance(job, Sweep):
                needs = {cell.digest for cell in (job.source, *job.targets)}
                after = tuple(sorted(self.tasks[digest].name for digest in needs if digest in self.tasks))
                sweeps.setdefault(after, {})[key] = job
        for after, group in sweeps.items():
            self._submit(group, after)

    @cached_property
    def _largest(self) -> int:
        return sbatch.largest_array()

    def _submit(self, jobs: Mapping[str, Job], after: tuple[str, ...] = ()) -> None:
        listed_jobs = list(jobs.items())
        for first in range(0, len(listed_jobs), self._largest):
            part = listed_jobs[first : first + self._largest]
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
            # One that depends on a training starts when that has ended, well or not, and is not to wait for it.
            patience = 0.0 if after else remote.VISIBLE
            listed = [
                {"key": key, "label": job.label, "job": job_to_plain(job), "patience": patience} for key, job in part
            ]
            self.store.write_array(name, self.shared, listed)
            folder = self.store.array_dir(name).resolve()
            script = SCRIPT.format(shlex.quote(sys.executable), shlex.join((str(self.store.root.resolve()), name)))
            try:
                number = sbatch.submit(script, folder, len(part), self.options, after)
            except SegbenchError:
                self.store.drop_array(name)
                raise
            self.store.submitted(name, number, after)
            for index, (key, job) in enumerate(part):
                self.tasks[key] = Task(name, number, index, key, job.label)

    def _take_back(self, keys: Iterable[str]) -> None:
        """Cancel what has just been submitted: SLURM refused the rest."""
        taken = [self.tasks.pop(key) for key in keys if key in self.tasks]
        sbatch.cancel(task.name for task in taken)
        for name in {task.array for task in taken}:
            self.store.drop_array(name)

    def _look(self) -> None:
        """Settle the jobs whose tasks ended, and tell how far others are."""
        ended = {name: self.store.ended(name) for name in {self.tasks[key].array for key in self.waiting}}
        for key in list(self.waiting):
            task = self.tasks[key]
            if task.index in ended[task.array]:
                self._settle(key)
        self.told += self.progress.of(self.waiting)

    def _settle(self, key: str) -> None:
        ended = self.store.task_ended(self.tasks[key])
        if ended is None:
            return
        future, task = self.waiting.pop(key), self.tasks.pop(key)
        if "unfit" in ended:
            self._avoid(ended["unfit"], ended["refused"])
        if "refused" in ended:
            future.set_exception(Refused(ended["refused"]))
        elif "error" in ended:
            future.set_result(Ended(ended["error"], said=tuple(ended.get("said", ()))))
        else:
            future.set_exception(Lost(ended.get("stopped", f"SLURM's job {task.name} vanished")))

    def _ask(self) -> None:
        """Ask SLURM which tasks it still has; one that it has not and that did not say how it ended vanished."""
        keys = {self.tasks[key].name: key for key in self.waiting}
        vanished, told = self.queue.look(list(keys))
        self.told += told
        for name, (state, node) in vanished.items():
            task = self.tasks[keys[name]]
            if self.store.task_ended(task) is None:
                future = self.waiting.pop(task.key)
                del self.tasks[task.key]
                self.store.write_task_ended(task, {"vanished": True})
                future.set_exception(self._lost(task, state, node))

    def _lost(self, task: Task, state: str, node: str) -> Lost:
        """Say how a task ended that did not say it itself; a node on which segbench did not begin gets no more tasks.

        Args:
            task: the task.
            state: SLURM's word for the ending; "" where it has forgotten the task.
            node: where it ran; "" where it did not, or SLURM has forgotten it.
        """
        line = self.store.last_line(task)
        if state == "FAILED" and node and self.store.begun(task) != node:
            why = f"{line}; see {self.store.output_file(task)}" if line else "it cannot write in the store"
            self._avoid(node, why)
            return Unfit(f"SLURM's job {task.name} cannot begin on {node}")
        ending = f"{state} on {node}" if node else state
        told = ", ".join(part for part in (ending, line and f"its last line: {line}") if part)
        return Lost(f"SLURM's job {task.name} vanished ({told})" if told else f"SLURM's job {task.name} vanished")

    def _avoid(self, node: str, why: str) -> None:
        """Send no more tasks to a node, those that wait in the queue among them."""
        if node in self.unfit:
            return
        self.unfit.append(node)
        self.told.append(f"{node} gets no more jobs of this run: {why}")
        before = self.options.get("exclude")
        self.options["exclude"] = node if before is None else f"{before},{node}"
        for number in {task.number for task in self.tasks.values()}:
            sbatch.avoid(number, self.options["exclude"])
