"""What a job on another machine needs beside the store, and how it hears that it should stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.components.plugins import VARIABLE
from segbench.config.matrix import Runtime
from segbench.config.own import declare
from segbench.errors import SegbenchError, StoreError
from segbench.execution import work, workers
from segbench.execution.board import Ended, Job
from segbench.plan.as_data import job_from_plain, job_to_plain
from segbench.plan.cells import TrainCell
from segbench.plan.plan import Sweep
from segbench.store import Store

LOOK_EVERY = 1.0
"""Seconds between two looks for the file that asks jobs to stop."""
NOT_READY = "its networks are not trained yet"
"""The error of a sweep that came before its trainings; it is no failure, and the sweep is submitted again."""


class Ear:
    """The channel of a job on another machine: the store tells its progress, and a file in it may ask it to stop.

    Args:
        stop: the job stops once it is set.
        stop_file: the job stops once it is there; None where nothing but `stop` asks it to.
    """

    def __init__(self, stop: threading.Event, stop_file: Path | None = None) -> None:
        self.stop_file, self.stop = stop_file, stop
        self.said: list[str] = []
        self._looked = 0.0

    def send(self, update: workers.Update) -> None:
        """Do nothing: the job's heartbeat tells the store."""

    def say(self, text: str) -> None:
        """Keep a line until the job ends."""
        self.said.append(text)

    def heard(self) -> tuple[str, ...]:
        """Return the lines that were kept, once."""
        said, self.said = self.said, []
        return tuple(said)

    def stopping(self) -> bool:
        """Whether the job should stop; the file is looked for once a second."""
        now = time.monotonic()
        if self.stop_file is not None and now - self._looked >= LOOK_EVERY:
            self._looked = now
            if self.stop_file.exists():
                self.stop.set()
        return self.stop.is_set()


def envelope(runtime: Runtime, threads: int) -> dict[str, Any]:
    """Return what all jobs of a run share, as JSON can hold it.

    Args:
        runtime: how jobs run.
        threads: CPU threads of each.
    """
    folders = {name: str(path.expanduser().resolve()) for name, path in runtime.data.items()}
    whole = {**runtime.model_dump(mode="json"), "data": folders, "store": str(runtime.store.resolve())}
    return {
        "runtime": whole,
        "threads": threads,
        "plugins": os.environ.get(VARIABLE, ""),
        "folder": str(Path.cwd()),
    }


def sent(job: Job) -> dict[str, Any]:
    """Return a job as it is sent."""
    return job_to_plain(job)


def do(shared: Mapping[str, Any], key: str, plain: Mapping[str, Any], ear: Ear) -> Ended:
    """Do a job that another machine sent.

    Args:
        shared: what `envelope` returned.
        key: digest or key of the job.
        plain: what `sent` returned.
        ear: how the job hears that it should stop.

    Returns:
        How it ended; with the error `NOT_READY` for a sweep that came before its trainings.

    Raises:
        Stopped: it was asked to stop; a checkpoint was written.
    """
    os.chdir(shared["folder"])
    if shared["plugins"]:
        os.environ[VARIABLE] = shared["plugins"]
    runtime = Runtime.model_validate(shared["runtime"])
    try:
        declare(runtime.data)
        job = job_from_plain(plain)
        device = workers.resolve_devices(runtime.device, 1, 1)[0]
    except SegbenchError as error:
        return Ended(str(error))
    workers.set_up(ear, device, int(shared["threads"]))
    store = Store(runtime.store)
    if isinstance(job, Sweep):
        ready = _ready(job, store)
        if not isinstance(ready, Sweep):
            return ready
        job = ready
    return work.work(key, job, store.root, runtime)._replace(said=ear.heard())


def _ready(sweep: Sweep, store: Store) -> Sweep | Ended:
    """Return what of a sweep can be done, or how it ends where nothing can."""
    failed: dict[str, str] = {}
    for cell in (sweep.source, *sweep.targets):
        if isinstance(cell, TrainCell) and not store.usable(cell.digest):
            try:
                reason = store.training_failure(cell.digest)
            except StoreError:
                reason = None
            if reason is None:
                return Ended(NOT_READY)
            failed[cell.digest] = f"{cell.label} could not be trained: {reason}"
    left = work.without_failed(sweep, failed, store)
    return Ended(next(iter(failed.values()))) if left is None else left
