"""A job tells in the store, every few seconds, where it runs and how far it is."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import replace

from segbench.errors import StoreError
from segbench.execution.board import Job
from segbench.plan.plan import Sweep
from segbench.store import Store
from segbench.store.running import Running

EVERY = 5.0
"""Seconds between two signs of life."""


class Heartbeat:
    """Writes a job's file in the store until the job ends.

    Args:
        store: the store.
        key: digest or key of the job.
        job: the job.
        engine: name of the engine that runs it.
    """

    def __init__(self, store: Store, key: str, job: Job, engine: str) -> None:
        cells = tuple(cell.digest for cell in job.cells) if isinstance(job, Sweep) else (job.digest,)
        now = time.time()
        self.store = store
        self.state = Running(key, job.label, cells, engine, socket.gethostname(), os.getpid(), now, now)
        self._begun = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def update(self, done: int, total: int, note: str) -> None:
        """Hear how far the job is; its next sign of life says so."""
        if not self._begun:  # the pace counts from the first step that was seen, not from before the data was opened
            self._begun = True
            self.state = replace(self.state, resumed=done, started=time.time())
        self.state = replace(self.state, done=done, total=total, note=note)

    def __enter__(self) -> Heartbeat:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self.store.drop_running(self.state.key)

    def _beat(self) -> None:
        while not self._ended.wait(EVERY):
            self._write()

    def _write(self) -> None:
        # Where nothing can be written, the job itself fails and says so.
        with contextlib.suppress(StoreError):
            self.store.write_running(replace(self.state, heard=time.time()))
