"""A Plan -> Records: what is done is skipped, what is ready runs, what fails is stored and the rest goes on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from segbench.config.matrix import Runtime
from segbench.errors import SegbenchError, Stopped, describe
from segbench.evaluation.sweep import run_sweep
from segbench.execution import workers
from segbench.execution.pass_counts import training_passes
from segbench.plan.cells import EvalCell, TrainCell
from segbench.plan.plan import Plan, Sweep
from segbench.reports.records import Record
from segbench.store import Store
from segbench.training import train

Job = TrainCell | Sweep


class Display(Protocol):
    """Where progress is shown."""

    def start(self, jobs: Mapping[str, str], cells: int, cached: int) -> None:
        """Begin: labels of the jobs, number of cells in all and of those that are done already."""
        ...

    def update(self, update: workers.Update) -> None:
        """A job went on."""
        ...

    def finish(self, job: str, cells: int, error: str | None) -> None:
        """A job ended, with `cells` cells; `error` says what went wrong."""
        ...


class _Silent:
    def start(self, jobs: Mapping[str, str], cells: int, cached: int) -> None:
        pass

    def update(self, update: workers.Update) -> None:
        pass

    def finish(self, job: str, cells: int, error: str | None) -> None:
        pass


SILENT: Display = _Silent()
"""A display that shows nothing."""


@dataclass
class Board:
    """What is still to do.

    Attributes:
        trainings: networks to train, by digest.
        sweeps: sweeps to run, by key.
        failed: networks that could not be trained, with the reason.
        running: jobs under way.
        tries: how often a job was under way when its process died.
    """

    trainings: dict[str, TrainCell]
    sweeps: dict[str, Sweep]
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[Future[str | None], tuple[str, Job]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    def ready(self) -> Iterator[tuple[str, Job]]:
        """Yield the jobs that could start now, trainings first."""
        yield from self.trainings.items()
        under_way = {key for key, job in self.running.values()}
        for key, sweep in self.sweeps.items():
            needs = {cell.digest for cell in (sweep.source, *sweep.targets)}
            if not needs & (set(self.trainings) | under_way | set(self.failed)):
                yield key, sweep


def pending(plan: Plan, store: Store) -> Board:
    """Return what a plan leaves to do in a store; costly trainings first, so that no worker waits at the end."""
    sweeps = {}
    for sweep in plan.sweeps:
        cells = tuple(cell for cell in sweep.cells if not store.evaluated(cell.digest))
        if cells:
            sweeps[sweep.key] = Sweep(sweep.source, cells)
    needed = {cell.digest for sweep in sweeps.values() for cell in (sweep.source, *sweep.targets)}
    trainings = [
        cell
        for cell in plan.trainings
        if store.trained(cell.digest) is None and (cell.digest in needed or not plan.evaluations)
    ]
    costly = sorted(trainings, key=_cost, reverse=True)
    return Board({cell.digest: cell for cell in costly}, sweeps)


def _cost(cell: TrainCell) -> int:
    """Passes of a training; of an epoch's length where that is what is known. Only the order of jobs depends on it."""
    passes = training_passes(cell.defense.short)
    length = cell.recipe["iterations"] or cell.recipe["epochs"]
    return (passes.forward + passes.backward) * int(length) * int(cell.recipe["batch_size"])


def run(plan: Plan, store: Store, runtime: Runtime, display: Display) -> list[Record]:
    """Run everything that a plan asks for and a store does not hold yet.

    Args:
        plan: what to do.
        store: where results go.
        runtime: how and where.
        display: hears of progress.

    Returns:
        A record for every evaluation of the plan, in its order, failed ones included.

    Raises:
        Stopped: the user asked to stop; what was done is kept.
    """
    store.write_manifest(plan.manifest())
    board = pending(plan, store)
    cells = len(plan.trainings) + len(plan.evaluations)
    left = len(board.trainings) + sum(len(sweep.cells) for sweep in board.sweeps.values())
    jobs: dict[str, Job] = {**board.trainings, **board.sweeps}
    labels = {key: job.label for key, job in jobs.items()}
    display.start(labels, cells, cells - left)
    if labels:
        devices = workers.resolve_devices(runtime.device, runtime.workers, len(labels))
        threads = max(1, len(os.sched_getaffinity(0)) // len(devices))
        if len(devices) == 1:
            _run_inline(board, store, runtime, display, devices[0])
        else:
            _run_processes(board, store, runtime, display, devices, threads)
    found = (store.record(cell.digest) for cell in plan.evaluations)
    return [record or cell.expected() for record, cell in zip(found, plan.evaluations, strict=True)]


def _run_inline(board: Board, store: Store, runtime: Runtime, display: Display, device: torch.device) -> None:
    stop = _Flag()

    class Direct:
        """A channel that leads straight to the display."""

        def send(self, update: workers.Update) -> None:
            display.update(update)

        def stopping(self) -> bool:
            return stop.is_set()

    threads = torch.get_num_threads()
    workers.set_up(Direct(), device, threads)
    executor = workers.InlineExecutor()
    with _interruptible(stop):
        while (job := next(board.ready(), None)) and not stop.is_set():
            _submit(executor, board, *job, store, runtime)
            for future in list(board.running):
                _settle(future, board, store, display)
        if stop.is_set():
            raise Stopped


def _run_processes(
    board: Board, store: Store, runtime: Runtime, display: Display, devices: list[torch.device], threads: int
) -> None:
    context = multiprocessing.get_context("spawn")
    stop: Any = context.Event()
    with _interruptible(stop):
        while not stop.is_set():
            # A worker that was killed may hold the lock of its queue for ever: a new pool gets a new one.
            updates: Any = context.Queue()
            try:
                with workers.local(len(devices), devices, threads, updates, stop) as executor:
                    broken = _work_off(executor, board, store, runtime, display, len(devices), updates, stop)
            except KeyboardInterrupt:
                stop.set()
                break
            _drain(updates, display)
            if not broken:
                break
        if stop.is_set():
            raise Stopped


def _work_off(
    executor: Any,
    board: Board,
    store: Store,
    runtime: Runtime,
    display: Display,
    workers: int,
    updates: Any,
    stop: Any,
) -> bool:
    """Keep the workers busy until nothing is left; True if a worker died and a new pool is needed."""
    while True:
        ready = board.ready()
        while len(board.running) < workers and not stop.is_set():
            job = next(ready, None)
            if job is None:
                break
            _submit(executor, board, *job, store, runtime)
            ready = board.ready()
        if not board.running:
            return False
        finished, _ = wait(board.running, timeout=0.2, return_when=FIRST_COMPLETED)
        _drain(updates, display)
        broken = [_settle(future, board, store, display) for future in finished]
        if any(broken):
            for future in list(board.running):
                _settle(future, board, store, display)
            return True


def _submit(executor: Any, board: Board, key: str, job: Job, store: Store, runtime: Runtime) -> None:
    board.trainings.pop(key, None)
    board.sweeps.pop(key, None)
    board.running[executor.submit(work, key, job, store.root, runtime)] = (key, job)


def _settle(future: Future[str | None], board: Board, store: Store, display: Display) -> bool:
    """Book a finished job; True if its process died."""
    key, job = board.running.pop(future)
    try:
        error = future.result()
    except BrokenProcessPool:
        board.tries[key] = board.tries.get(key, 0) + 1
        if board.tries[key] < 2:
            if isinstance(job, Sweep):
                board.sweeps[key] = job
            else:
                board.trainings[key] = job
            return True
        error = "its process died twice (killed, perhaps for want of memory): try fewer --workers"
        _store_failure(job, store, RuntimeError(error))
        _book(job, key, error, board, store, display)
        return True
    except Stopped:
        return False
    _book(job, key, error, board, store, display)
    return False


def _book(job: Job, key: str, error: str | None, board: Board, store: Store, display: Display) -> None:
    display.finish(key, len(job.cells) if isinstance(job, Sweep) else 1, error)
    if error is None or isinstance(job, Sweep):
        return
    board.failed[key] = error
    for other, sweep in list(board.sweeps.items()):
        needs = {cell.digest: cell for cell in (sweep.source, *sweep.targets)}
        if key not in needs:
            continue
        # Targets that were trained are still worth scoring; those that need the failed network are not.
        kept = tuple(c for c in sweep.cells if key not in (c.target.digest, c.source.digest))
        lost = [cell for cell in sweep.cells if cell not in kept]
        for cell in lost:
            _fail_cell(cell, store, SegbenchError(f"{job.label} could not be trained: {error}"))
        display.finish(other, len(lost), f"{job.label} could not be trained")
        if kept:
            board.sweeps[other] = Sweep(sweep.source, kept)
        else:
            del board.sweeps[other]


def work(key: str, job: Job, root: Path, runtime: Runtime) -> str | None:
    """Do one job in the process that this is called in; return what went wrong, if anything."""
    channel, device = workers.here()
    store, reporter = Store(root), workers.JobReporter(channel, key)
    cell = job.source if isinstance(job, Sweep) else job
    data = runtime.data.get(cell.data.component.name)
    try:
        if isinstance(job, Sweep):
            run_sweep(
                job,
                store,
                device=device,
                root=data,
                batch=runtime.eval_batch,
                keep=runtime.keep_images,
                checkpoint_every=runtime.checkpoint_every,
                reporter=reporter,
            )
        else:
            train.run(
                job,
                store,
                device=device,
                root=data,
                loader_workers=runtime.loader_workers,
                recompute=runtime.recompute,
                checkpoint_every=runtime.checkpoint_every,
                reporter=reporter,
            )
    except Stopped:
        raise
    except Exception as error:
        _store_failure(job, store, error)
        return describe(error)
    return None


def _store_failure(job: Job, store: Store, error: Exception) -> None:
    if isinstance(job, Sweep):
        for cell in job.cells:
            _fail_cell(cell, store, error)
    else:
        store.write_failure(store.train_dir(job.digest), error, {"cell": job.model_dump(mode="json")})


def _fail_cell(cell: EvalCell, store: Store, error: Exception) -> None:
    folder = store.eval_dir(cell.digest)
    if not store.evaluated(cell.digest):
        record = cell.expected().model_copy(update={"status": "failed", "error": describe(error)})
        store.write_failure(folder, error, record.model_dump(mode="json"))


def _drain(updates: Any, display: Display) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            display.update(updates.get_nowait())


class _Flag:
    def __init__(self) -> None:
        self.value = False

    def set(self) -> None:
        self.value = True

    def is_set(self) -> bool:
        return self.value


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
