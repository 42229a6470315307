"""This machine as an engine: spawned processes, each with its share of threads or its own GPU, or this process."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from segbench.config.matrix import Runtime
from segbench.execution import work, workers
from segbench.execution.board import Ended, Job
from segbench.execution.engines.base import Lost, outcome_of
from segbench.networks import load


class ThisProcess:
    """Does one job after the other in this process.

    Args:
        root: folder of the store.
        runtime: how jobs run.
        device: where.
        threads: CPU threads.
        display: hears of progress at once.
        stop: set once the user asked to stop.
    """

    slots, tries, advice = 1, 1, ""

    def __init__(
        self,
        root: Path,
        runtime: Runtime,
        device: torch.device,
        threads: int,
        display: workers.Hears,
        stop: threading.Event,
    ) -> None:
        self.root, self.runtime, self.device, self.threads = root, runtime, device, threads
        self.channel = workers.DirectChannel(display, stop)

    def __enter__(self) -> ThisProcess:
        self.before = torch.get_num_threads()
        workers.set_up(self.channel, self.device, self.threads)
        return self

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self.before)
        load.forget()

    def offer(self, jobs: Mapping[str, Job]) -> None:
        """Nothing is to be prepared."""

    def submit(self, key: str, job: Job) -> Future[Ended]:
        """Do a job and return its finished future."""
        future: Future[Ended] = Future()
        try:
            future.set_result(work.work(key, job, self.root, self.runtime))
        except Exception as error:
            future.set_exception(error)
        return future

    def news(self) -> Iterator[workers.Update | str]:
        """The display has heard everything."""
        return iter(())

    def stop(self) -> None:
        """The event that jobs look at is set already."""


class Processes:
    """Keeps a pool of processes busy, and starts a new one where a process died.

    Args:
        root: folder of the store.
        runtime: how jobs run.
        devices: a device for each worker.
        threads: CPU threads of each worker.
    """

    tries = 2
    advice = "killed, perhaps for want of memory: try fewer --workers"

    def __init__(self, root: Path, runtime: Runtime, devices: list[torch.device], threads: int) -> None:
        self.root, self.runtime, self.devices, self.threads = root, runtime, devices, threads
        self.slots = len(devices)
        self.context = multiprocessing.get_context("spawn")
        self.stopped: Any = self.context.Event()
        self.told: list[workers.Update | str] = []

    def __enter__(self) -> Processes:
        self._open()
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown()

    def offer(self, jobs: Mapping[str, Job]) -> None:
        """Nothing is to be prepared."""

    def submit(self, key: str, job: Job) -> Future[Ended]:
        """Give a job to the pool."""
        try:
            inner = self.pool.submit(work.work, key, job, self.root, self.runtime)
        except BrokenProcessPool:
            self.pool.shutdown()
            self.told += self._drained()
            self._open()
            inner = self.pool.submit(work.work, key, job, self.root, self.runtime)
        return outcome_of(inner, _outcome)

    def news(self) -> list[workers.Update | str]:
        """Return what workers have put into their queue."""
        told, self.told = [*self.told, *self._drained()], []
        return told

    def stop(self) -> None:
        """Ask the workers to stop."""
        self.stopped.set()

    def _open(self) -> None:
        # A worker that was killed may hold the lock of its queue for ever: a new pool gets a new one.
        self.updates: Any = self.context.Queue()
        self.pool: Executor = workers.local(self.devices, self.threads, self.updates, self.stopped)

    def _drained(self) -> Iterator[workers.Update | str]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self.updates.get_nowait()


def _outcome(ended: Future[Ended]) -> Ended:
    try:
        return ended.result()
    except BrokenProcessPool as error:
        raise Lost("its process died") from error
