"""What runs in a store, where and how far: a small file for each job, which its worker writes every few seconds."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from segbench.errors import StoreError
from segbench.store.base import Folder, own_files

SILENT_AFTER = 60.0
"""Seconds after which a job that is not heard of is taken for dead."""
GONE_AFTER = 12.0
"""The same where this machine has no process of its number: that may be one of a container with the machine's name."""


@dataclass(frozen=True)
class Running:
    """A job under way.

    Attributes:
        key: digest of the training, or key of the sweep.
        label: what progress lines call it.
        cells: digests of what it makes.
        engine: "local", "ray" or "slurm".
        host: name of the machine.
        process: number of the process there.
        started: when this process began with it, in seconds since 1970.
        heard: when it was last heard of.
        done: steps done.
        total: steps in all; 0 before it is known.
        resumed: steps that were done before this process began with it.
        note: current loss or mIoU and rate.
    """

    key: str
    label: str
    cells: tuple[str, ...]
    engine: str
    host: str
    process: int
    started: float
    heard: float
    done: int = 0
    total: int = 0
    resumed: int = 0
    note: str = ""

    def left(self) -> float | None:
        """Return the seconds that are left at the pace so far, or None before there is one."""
        made = self.done - self.resumed
        if made <= 0 or self.total <= 0:
            return None
        return max(0.0, (self.heard - self.started) / made * (self.total - self.done))

    def lost(self, now: float) -> bool:
        """Whether it was not heard of for a minute, or its process is not there any more.

        Args:
            now: what `RunningJobs.clock` says.
        """
        gone = self.host == socket.gethostname() and not _alive(self.process)
        return now - self.heard > (GONE_AFTER if gone else SILENT_AFTER)


class RunningJobs(Folder):
    """The jobs that run in a store."""

    def running(self) -> list[Running]:
        """Return the jobs under way, those that began first first; dead ones are among them."""
        found = [job for key in self.under_way() if (job := self.running_job(key)) is not None]
        return sorted(found, key=lambda job: (job.started, job.key))

    def under_way(self) -> set[str]:
        """Return the keys of the jobs under way, of which dead ones are some."""
        return {path.stem for path in own_files(self._running_dir, "*.json")}

    def running_job(self, key: str) -> Running | None:
        """Return how far a job is, with times by the clock of the file system, or None where it does not run."""
        path = self._running_dir / f"{key}.json"
        try:
            content: dict[str, Any] | None = self._read(path)
            if content is None:
                return None
            job = Running(**{**content, "cells": tuple(content["cells"])})
            behind = path.stat().st_mtime - job.heard  # the clock of the machine that wrote it may be wrong
        except (StoreError, KeyError, TypeError, OSError):  # it is written again in a few seconds
            return None
        return replace(job, started=job.started + behind, heard=job.heard + behind)

    def clock(self) -> float:
        """Return the time of the store's file system, or of this machine where nothing runs or can be written."""
        try:
            with tempfile.TemporaryFile(dir=self._running_dir) as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return time.time()

    def write_running(self, job: Running) -> None:
        """Say how far a job is."""
        self._write(self._running_dir / f"{job.key}.json", asdict(job))

    def drop_running(self, key: str) -> None:
        """Say that a job ended in this process."""
        (self._running_dir / f"{key}.json").unlink(missing_ok=True)

    @property
    def _running_dir(self) -> Path:
        return self.cache_dir / "running"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
