"""A Plan -> Records: what is done is skipped, what is ready runs, what fails is stored and the rest goes on."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from segbench.config.matrix import Runtime
from segbench.errors import SegbenchError, Stopped, StoreError
from segbench.evaluation.batch_size import MOST
from segbench.execution import workers
from segbench.execution.board import PAUSE, Ended, Job, JobBoard, keep_whole, outdated, pending
from segbench.execution.cost import job_passes, lengths
from segbench.execution.engines.base import Engine, Lost, Refused
from segbench.execution.engines.choose import chosen
from segbench.execution.engines.slurm import SlurmEngine
from segbench.execution.shards import shards
from segbench.execution.work import store_failure, without_failed
from segbench.plan.networks import ExternalCell
from segbench.plan.plan import Plan, Sweep
from segbench.store import Store
from segbench.store.base import fault
from segbench.store.store import lacking


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
        StoreError: the store cannot be written, or its file system cannot be shared.
        SegbenchError: the engine is not there, or cannot run what the plan asks for.
    """
    board, make = _opened(plan, store, runtime, display)
    if board.jobs:
        stop = threading.Event()
        with make(display, stop) as engine:
            try:
                _Execution(plan, board, store, engine, display, stop).go()
            finally:
                keep_whole(plan, board.whole)


def submit(plan: Plan, store: Store, runtime: Runtime, display: Display) -> tuple[str, ...]:
    """Hand everything that a plan leaves to do to SLURM, and return the numbers of its jobs.

    Raises:
        Stopped: the user asked to stop; what was submitted is cancelled.
        StoreError: the store cannot be written, or its file system cannot be shared.
        SegbenchError: the engine is another one, or SLURM refuses the jobs.
    """
    if runtime.engine != "slurm":
        raise SegbenchError(f"--detach: jobs of the engine {runtime.engine} end with this process; use --engine slurm")
    board, make = _opened(plan, store, runtime, display)
    stop = threading.Event()
    engine = make(display, stop)
    assert isinstance(engine, SlurmEngine)
    with _interruptible(stop, [signal.SIGINT]):
        engine.offer(board.jobs)
    if stop.is_set():
        engine.stop()
        raise Stopped
    return engine.numbers


def _opened(
    plan: Plan, store: Store, runtime: Runtime, display: Display
) -> tuple[JobBoard, Callable[[Display, threading.Event], Engine]]:
    """Write down what a plan asks for, and return what is left of it and how its engine is made."""
    _movable(plan, runtime)
    store.open_for_writing()
    engine = chosen(store, runtime, len(plan.trainings) + len(plan.sweeps))
    threads = _threads(plan, store, engine.threads, display)
    store.write_manifest(plan.manifest(threads))
    _restore_cells(plan, store, display)
    known = lengths(plan)
    board = pending(plan, store, shards(plan.sweeps, known, engine.at_once, runtime.eval_batch or MOST))
    whole_sweeps = [sweep for sweep in board.sweeps.values() if sweep.shard is None or sweep.shard[0] == 0]
    left = len(board.trainings) + sum(len(sweep.cells) for sweep in whole_sweeps)
    cells = len(plan.trainings) + len(plan.evaluations)
    jobs = board.jobs
    display.start({key: job.label for key, job in jobs.items()}, cells, cells - left, job_passes(jobs, known))
    for note in board.notes:
        display.say(f"{note}; it is done again")
    if unsealed := store.unsealed(board.whole.known):
        display.say(lacking(store.root, unsealed))
    return board, lambda shown, stop: engine.make(threads, len(jobs), shown, stop)


def _movable(plan: Plan, runtime: Runtime) -> None:
    """See that no network lives in the memory of this process alone, where jobs go elsewhere."""
    for cell in {cell.target.digest: cell.target for cell in plan.evaluations}.values():
        if runtime.engine != "local" and isinstance(cell, ExternalCell) and cell.external.load.startswith("memory:"):
            raise SegbenchError(
                f"{cell.external.name}: lives in the memory of this process, where the engine {runtime.engine} cannot "
                "reach it; use the engine local, or name what builds it, such as file.py:factory"
            )


def _threads(plan: Plan, store: Store, fitting: int, display: Display) -> int:
    """Return the CPU threads of each worker: decided by a matrix's first run and kept, because numbers depend on it."""
    try:
        before = store.manifest(plan.matrix.name, filled=False)
    except StoreError as error:
        display.say(f"{fault(error)}; it is written again")
        before = None
    return fitting if before is None or before.threads is None else before.threads


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
    engine: Engine
    display: Display
    stop: threading.Event
    tries: dict[str, int] = field(default_factory=dict)

    def go(self) -> None:
        """Keep the engine busy until nothing is left."""
        asked = False
        # Jobs of SLURM outlive this process: they are cancelled by Ctrl-C, and not where a login node ends its users'.
        ending = [signal.SIGINT] if isinstance(self.engine, SlurmEngine) else [signal.SIGINT, signal.SIGTERM]
        with _interruptible(self.stop, ending):
            try:
                self.engine.offer(self.board.jobs)
                while self.board.running or ((self.board.trainings or self.board.sweeps) and not self.stop.is_set()):
                    if self.stop.is_set() and not asked:
                        asked = True
                        self.engine.stop()
                    self._fill()
                    if not self.board.running:
                        time.sleep(0.2)
                        continue
                    finished, _ = wait(self.board.running, timeout=0.2, return_when=FIRST_COMPLETED)
                    self._show()
                    for future in finished:
                        self._settle(future)
                    self.board.whole.catch_up()
                if self.stop.is_set() and not asked:  # before the first of those that were offered began
                    self.engine.stop()
            except KeyboardInterrupt:
                self.stop.set()
                self.engine.stop()
        self._show()
        if self.stop.is_set():
            raise Stopped

    def _fill(self) -> None:
        while len(self.board.running) < self.engine.slots and not self.stop.is_set():
            found = self.board.take()
            if found is None:
                return
            self.board.running[self.engine.submit(*found)] = found

    def _settle(self, future: Future[Ended]) -> None:
        """Book a job that ended, or that got lost."""
        key, job = self.board.running.pop(future)
        try:
            ended = future.result()
        except (Stopped, CancelledError):
            return
        except Lost as error:
            self._put_back(key, job, error)
            return
        for text in ended.said:
            self.display.say(text)
        if ended.elsewhere:
            if key not in self.board.paused:
                self.display.say(f"running elsewhere: {job.label}; waiting for it")
            self.board.put_back(key, job, PAUSE)
        else:
            self._book(key, job, ended.error)

    def _put_back(self, key: str, job: Job, error: Lost) -> None:
        """Put a job that got lost back into the queue, or fail it where that happens each time."""
        self.tries[key] = self.tries.get(key, 0) + 1
        if self.tries[key] < self.engine.tries:
            if not self.stop.is_set():
                self.display.say(f"{job.label}: {error}; it is started again")
            self.board.put_back(key, job)
            return
        times = {2: "twice"}.get(self.tries[key], f"{self.tries[key]} times")
        advice = f" ({self.engine.advice})" if self.engine.advice and not isinstance(error, Refused) else ""
        reason = f"{error}, {times}{advice}"
        store_failure(job, self.store, RuntimeError(reason))
        self._book(key, job, reason)

    def _book(self, key: str, job: Job, error: str | None) -> None:
        """Book a job that is done or failed, and fail the evaluations that needed it."""
        self.display.finish(key, self.board.ends(key, job), error)
        if isinstance(job, Sweep):
            self.board.whole.follow(cell.digest for cell in job.cells)
            return
        if error is None:
            # A training that had to be done again may give other weights than those of earlier records.
            sweeps, notes = outdated(key, self.plan, self.board.whole, self.board.failed)
            for note in notes:
                self.display.say(f"{note}; it is done again")
        else:
            sweeps, self.board.failed[key] = {}, f"{job.label} could not be trained: {error}"
        for other, sweep in self.board.settled(key):
            kept = without_failed(sweep, self.board.failed, self.store)
            if lost := len(sweep.cells) - (len(kept.cells) if kept else 0):
                of_others = sweep.shard is not None and sweep.shard[0] > 0
                missing = next(c for c in (sweep.source, *sweep.targets) if c.digest in self.board.failed)
                self.display.finish(other, 0 if of_others else lost, f"{missing.label} could not be trained")
            if kept:
                self.board.put_back(other, kept)
        self.board.add(sweeps)

    def _show(self) -> None:
        for update in self.engine.news():
            if isinstance(update, str):
                self.display.say(update)
            else:
                self.display.update(update)


@contextlib.contextmanager
def _interruptible(stop: threading.Event, numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Let the first of some signals ask for a stop, and the second one have its usual effect."""
    previous: dict[int, Any] = {}

    def ask(number: int, frame: Any) -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    try:
        for number in numbers:
            previous[number] = signal.signal(number, ask) or signal.SIG_DFL  # None is one that is not of Python
    except ValueError:  # not in the main thread: whoever called this handles its own interrupts
        yield
        return
    try:
        yield
    finally:
        restore()
