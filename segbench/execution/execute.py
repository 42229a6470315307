"""A Plan -> Records: what is done is skipped, what is ready runs, what fails is stored and the rest goes on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from segbench.config.matrix import Runtime
from segbench.errors import Busy, SegbenchError, Stopped, StoreError, describe
from segbench.evaluation.sweep import run_sweep
from segbench.execution import workers
from segbench.execution.board import PAUSE, Ended, Job, JobBoard, outdated, pending
from segbench.execution.cost import job_passes
from segbench.plan.cells import EvalCell
from segbench.plan.plan import Plan, Sweep
from segbench.store import Store
from segbench.store.base import fault
from segbench.store.store import lacking
from segbench.training.train import run_training


class Display(Protocol):
    """Where progress is shown."""

    def start(self, jobs: Mapping[str, str], cells: int, cached: int, passes: Mapping[str, int]) -> None:
        """Begin: labels of the jobs, number of cells in all and of those that are done, passes that each job takes."""
        ...

    def update(self, update: workers.Update) -> None:
        """A job went on."""
        ...

    def finish(self, job: str, cells: int, error: str | None) -> None:
        """A job ended, with `cells` cells; `error` says what went wrong."""
        ...

    def say(self, text: str) -> None:
        """Something is worth a line."""
        ...


class _Silent:
    def start(self, jobs: Mapping[str, str], cells: int, cached: int, passes: Mapping[str, int]) -> None:
        pass

    def update(self, update: workers.Update) -> None:
        pass

    def finish(self, job: str, cells: int, error: str | None) -> None:
        pass

    def say(self, text: str) -> None:
        pass


SILENT: Display = _Silent()
"""A display that shows nothing."""


def run(plan: Plan, store: Store, runtime: Runtime, display: Display) -> None:
    """Run everything that a plan asks for and a store does not hold yet.

    Args:
        plan: what to do.
        store: where results go.
        runtime: how and where.
        display: hears of progress.

    Raises:
        Stopped: the user asked to stop; what was done is kept.
        StoreError: the store cannot be written.
    """
    store.open_for_writing()
    count = len(plan.trainings) + len(plan.sweeps)
    devices = workers.resolve_devices(runtime.device, runtime.workers, count)
    threads = _threads(plan, store, len(devices), display)
    store.write_manifest(plan.manifest(threads))
    _restore_cells(plan, store, display)
    board = pending(plan, store)
    cells = len(plan.trainings) + len(plan.evaluations)
    left = len(board.trainings) + sum(len(sweep.cells) for sweep in board.sweeps.values())
    jobs = board.jobs
    display.start({key: job.label for key, job in jobs.items()}, cells, cells - left, job_passes(plan, jobs))
    for note in board.notes:
        display.say(f"{note}; it is done again")
    if unsealed := store.unsealed():
        display.say(lacking(store.root, unsealed))
    if jobs:
        run = _Execution(plan, board, store, runtime, display)
        if len(devices) == 1:
            run.inline(devices[0], threads)
        else:
            run.processes(devices[: max(1, len(jobs))], threads)


def _threads(plan: Plan, store: Store, count: int, display: Display) -> int:
    """Return the CPU threads of each worker: decided by a matrix's first run and kept, because numbers depend on it."""
    try:
        before = store.manifest(plan.matrix.name, filled=False)
    except StoreError as error:
        display.say(f"{fault(error)}; it is written again")
        before = None
    if before is not None and before.threads is not None:
        return before.threads
    return torch.get_num_threads() if count == 1 else max(1, len(os.sched_getaffinity(0)) // count)


def _restore_cells(plan: Plan, store: Store, display: Display) -> None:
    """Write the cells of finished trainings again where they are damaged or missing."""
    for cell in plan.trainings:
        try:
            store.training_cell(cell.digest)
        except StoreError as error:
            display.say(f"{fault(error)}; it is written again")
            store.write_training_cell(cell.digest, cell.to_plain())


@dataclass
class _Execution:
    """The jobs of a plan while they run."""

    plan: Plan
    board: JobBoard
    store: Store
    runtime: Runtime
    display: Display

    def inline(self, device: torch.device, threads: int) -> None:
        """Do one job after the other in this process."""
        stop = threading.Event()
        channel = workers.DirectChannel(self.display, stop)
        before = torch.get_num_threads()
        workers.set_up(channel, device, threads)
        try:
            with _interruptible(stop):
                while self.board.jobs and not stop.is_set():
                    job = next(self.board.ready(), None)
                    if job is None:
                        time.sleep(0.2)
                        continue
                    self._submit(workers.InlineExecutor(), *job)
                    for future in list(self.board.running):
                        self._settle(future)
                if stop.is_set():
                    raise Stopped
        finally:
            torch.set_num_threads(before)

    def processes(self, devices: list[torch.device], threads: int) -> None:
        """Keep a pool of processes busy, and start a new one where a process died."""
        context = multiprocessing.get_context("spawn")
        stop: Any = context.Event()
        with _interruptible(stop):
            while not stop.is_set():
                # A worker that was killed may hold the lock of its queue for ever: a new pool gets a new one.
                updates: Any = context.Queue()
                try:
                    with workers.local(devices, threads, updates, stop) as executor:
                        whole = self._work_off(executor, len(devices), updates, stop)
                except KeyboardInterrupt:
                    stop.set()
                    break
                self._show(updates)
                if whole:
                    break
            if stop.is_set():
                raise Stopped

    def _work_off(self, executor: Executor, count: int, updates: Any, stop: Any) -> bool:
        """Keep the workers busy until nothing is left; False if a worker died and a new pool is needed."""
        while True:
            while len(self.board.running) < count and not stop.is_set():
                job = next(self.board.ready(), None)
                if job is None:
                    break
                self._submit(executor, *job)
            if not self.board.running:
                if stop.is_set() or not self.board.jobs:
                    return True
                time.sleep(0.2)
                continue
            finished, _ = wait(self.board.running, timeout=0.2, return_when=FIRST_COMPLETED)
            self._show(updates)
            if not all([self._settle(future) for future in finished]):
                for future in list(self.board.running):
                    self._settle(future)
                return False

    def _submit(self, executor: Executor, key: str, job: Job) -> None:
        self.board.start(key, job, executor.submit(work, key, job, self.store.root, self.runtime))

    def _settle(self, future: Future[Ended]) -> bool:
        """Book a finished job; False if its process died."""
        key, job = self.board.running.pop(future)
        try:
            ended = future.result()
        except BrokenProcessPool:
            self.board.tries[key] = self.board.tries.get(key, 0) + 1
            if self.board.tries[key] < 2:
                self.board.put_back(key, job)
            else:
                error = "its process died twice (killed, perhaps for want of memory): try fewer --workers"
                _store_failure(job, self.store, RuntimeError(error))
                self._book(key, job, error)
            return False
        except Stopped:
            return True
        if ended.elsewhere:
            if key not in self.board.paused:
                self.display.say(f"running elsewhere: {job.label}; waiting for it")
            self.board.put_back(key, job, PAUSE)
        else:
            self._book(key, job, ended.error)
        return True

    def _book(self, key: str, job: Job, error: str | None) -> None:
        """Book a job that is done or failed, and fail the evaluations that needed it."""
        self.display.finish(key, len(job.cells) if isinstance(job, Sweep) else 1, error)
        if isinstance(job, Sweep):
            return
        if error is None:
            # A training that had to be done again may give other weights than those of earlier records.
            sweeps, notes = outdated(key, self.plan, self.store, self.board.failed)
            self.board.sweeps.update(sweeps)
            for note in notes:
                self.display.say(f"{note}; it is done again")
            return
        self.board.failed[key] = error
        reason = f"{job.label} could not be trained"
        for other, sweep in list(self.board.sweeps.items()):
            # Targets that were trained are still worth scoring; those that need the failed network are not.
            kept = tuple(c for c in sweep.cells if key not in (c.target.digest, c.source.digest))
            lost = [cell for cell in sweep.cells if cell not in kept]
            if not lost:
                continue
            for cell in lost:
                _fail_cell(cell, self.store, SegbenchError(f"{reason}: {error}"))
            self.display.finish(other, len(lost), reason)
            if kept:
                self.board.sweeps[other] = Sweep(sweep.source, kept)
            else:
                del self.board.sweeps[other]

    def _show(self, updates: Any) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                update = updates.get_nowait()
                if isinstance(update, str):
                    self.display.say(update)
                else:
                    self.display.update(update)


def work(key: str, job: Job, root: Path, runtime: Runtime) -> Ended:
    """Do one job in the process that this is called in."""
    channel, device = workers.here()
    store, reporter = Store(root), workers.JobReporter(channel, key)
    try:
        if isinstance(job, Sweep):
            run_sweep(job, store, runtime, device, reporter)
        else:
            run_training(job, store, runtime, device, reporter)
    except Stopped:
        raise
    except Busy:
        return Ended(elsewhere=True)
    except Exception as error:
        _store_failure(job, store, error)
        return Ended(describe(error))
    return Ended()


def _store_failure(job: Job, store: Store, error: Exception) -> None:
    """Store why a job failed; where even that cannot be written, the error of the job is what counts."""
    with contextlib.suppress(StoreError):
        if isinstance(job, Sweep):
            for cell in job.cells:
                _fail_cell(cell, store, error)
        else:
            store.write_training_failure(job.digest, error, job.to_plain())


def _fail_cell(cell: EvalCell, store: Store, error: Exception) -> None:
    if not store.current(cell.digest):
        record = cell.expected().model_copy(update={"status": "failed", "error": describe(error)})
        store.write_failed_record(record, error)


@contextlib.contextmanager
def _interruptible(stop: Any) -> Iterator[None]:
    """Let the first Ctrl-C ask for a stop, and the second one have its usual effect."""

    def ask(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, previous)

    try:
        previous = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread: whoever called this handles its own interrupts
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
