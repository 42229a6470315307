"""What a job on another machine needs beside the store, and how it hears that it should stop."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from segbench.components.sources import package_sha256
from segbench.config.matrix import Runtime
from segbench.config.own import declare
from segbench.errors import SegbenchError, Stopped, StoreError
from segbench.execution import work, workers
from segbench.execution.board import Ended
from segbench.execution.engines.base import Refused, Unfit
from segbench.plan.as_data import job_from_plain
from segbench.plan.networks import TrainCell
from segbench.plan.plan import Sweep
from segbench.store import Store

LOOK_EVERY = 1.0
"""Seconds between two looks into the store, for what jobs have left there and for what asks them to stop."""
VISIBLE = 90.0
"""Seconds within which a file of one machine is seen on the others: NFS keeps what it knows of a folder for 60 s."""


class Ear:
    """The channel of a job on another machine: the store tells its progress, and a file in it may ask it to stop.

    Args:
        stop: the job stops once it is set.
        stop_file: the job stops once it is there; None where nothing but `stop` asks it to.

    Attributes:
        moved: whether a step of a job was done.
    """

    def __init__(self, stop: threading.Event, stop_file: Path | None = None) -> None:
        self.stop_file, self.stop = stop_file, stop
        self.said: list[str] = []
        self.moved = False
        self._first: dict[str, int] = {}
        self._looked = 0.0

    def send(self, update: workers.Update) -> None:
        """Note whether a step was done; the job's heartbeat tells the store how far it is."""
        self.moved |= update.done > self._first.setdefault(update.job, update.done)

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


class Progress:
    """How far jobs on other machines are, from what they tell the store.

    Args:
        store: the store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._heard: dict[str, float] = {}

    def of(self, keys: Iterable[str]) -> Iterator[workers.Update]:
        """Yield what is new of those of some jobs that are under way."""
        under_way = self.store.under_way()
        for key in keys:
            running = self.store.running_job(key) if key in under_way else None
            if running is not None and running.total and running.heard != self._heard.get(key):
                self._heard[key] = running.heard
                yield workers.Update(key, running.process, running.done, running.total, running.note)


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
        "environment": {name: value for name, value in os.environ.items() if name.startswith("SEGBENCH_")},
        "folder": str(Path.cwd()),
        "code": code(),
    }


@cache
def code() -> str:
    """Return a hash of the segbench that this process runs."""
    return package_sha256("segbench")


def do(shared: Mapping[str, Any], key: str, plain: Mapping[str, Any], ear: Ear, patience: float = 0.0) -> Ended:
    """Do a job that another machine sent.

    Args:
        shared: what `envelope` returned.
        key: digest or key of the job.
        plain: the job, from `job_to_plain`.
        ear: how the job hears that it should stop.
        patience: seconds to wait for the networks of a sweep, which another machine has trained.

    Returns:
        How it ended.

    Raises:
        Unfit: this machine has another segbench, or lacks the data or the device.
        Refused: it does not see the networks of a sweep.
        Stopped: it was asked to stop; a checkpoint was written.
    """
    if shared.get("code") != code():
        raise Unfit(
            f"{socket.gethostname()} has another segbench than the machine that submitted the job; install the same on "
            "all, and run the matrix again"
        )
    os.chdir(shared["folder"])
    os.environ.update(shared["environment"])
    runtime = Runtime.model_validate(shared["runtime"])
    try:
        declare(runtime.data)
        job = job_from_plain(plain)
        device = workers.resolve_devices(runtime.device, 1, 1)[0]
    except SegbenchError as error:
        raise Unfit(f"{socket.gethostname()}: {error}") from error
    workers.set_up(ear, device, int(shared["threads"]))
    store = Store(runtime.store)
    if isinstance(job, Sweep):
        until = time.monotonic() + patience
        while (reasons := _failed(job, store)) is None:
            if ear.stopping():
                raise Stopped
            if time.monotonic() >= until:
                raise Refused(f"{socket.gethostname()} does not see the networks of the sweep")
            time.sleep(LOOK_EVERY)
        left = work.without_failed(job, reasons, store)
        if left is None:
            return Ended(next(iter(reasons.values())))
        job = left
    return work.work(key, job, store.root, runtime)._replace(said=ear.heard())


def _failed(sweep: Sweep, store: Store) -> dict[str, str] | None:
    """Return why networks of a sweep could not be trained, by their digests; None where one is not trained yet."""
    failed: dict[str, str] = {}
    for cell in (sweep.source, *sweep.targets):
        if isinstance(cell, TrainCell) and not store.usable(cell.digest):
            try:
                reason = store.training_failure(cell.digest)
            except StoreError:
                reason = None
            if reason is None:
                return None
            failed[cell.digest] = f"{cell.label} could not be trained: {reason}"
    return failed
