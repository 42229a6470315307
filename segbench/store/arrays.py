"""Arrays of jobs that were handed to SLURM: what each holds, and how each of its tasks ended.

cache/slurm/<name>/  jobs.json  submitted.json  begun/<task>.json  ended/<task>.json  output/<task>.txt
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from segbench.errors import StoreError
from segbench.store.base import lock
from segbench.store.running import RunningJobs

KEPT = 3600.0
"""Seconds for which an array is kept when all its tasks have ended."""


@dataclass(frozen=True)
class Task:
    """A place in an array.

    Attributes:
        array: name of the array's folder.
        number: number that SLURM gave the array.
        index: of the task in it.
        key: digest or key of its job.
        label: what progress lines call the job.
    """

    array: str
    number: str
    index: int
    key: str
    label: str

    @property
    def name(self) -> str:
        """What SLURM calls it."""
        return f"{self.number}_{self.index}"


class Arrays(RunningJobs):
    """The arrays of a store."""

    def submission_lock(self) -> FileLock:
        """Return the lock of submitting: one process at a time looks what is in the queue and adds to it."""
        return lock(self.cache_dir / "slurm")

    def array_dir(self, name: str) -> Path:
        """Folder of an array."""
        return self.cache_dir / "slurm" / name

    def write_array(self, name: str, shared: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> None:
        """Store the jobs of an array before it is submitted.

        Args:
            name: of its folder.
            shared: what its jobs share.
            jobs: for each task `key`, `label`, the `job` as plain data, and the `patience` of `remote.do`.
        """
        folder = self.array_dir(name)
        for part in ("begun", "ended", "output"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._write(folder / "jobs.json", {"shared": dict(shared), "jobs": [dict(job) for job in jobs]})

    def array(self, name: str) -> dict[str, Any]:
        """Return what `write_array` stored.

        Raises:
            StoreError: it is damaged or missing.
        """
        path = self.array_dir(name) / "jobs.json"
        content = self._read(path)
        if content is None:
            raise StoreError(f"{path}: missing; run the matrix again")
        return content

    def submitted(self, name: str, number: str, after: Sequence[str] = ()) -> None:
        """Store the number that SLURM gave an array, and the names of the tasks that it depends on."""
        self._write(self.array_dir(name) / "submitted.json", {"number": number, "after": list(after)})

    def depending(self, task: Task) -> dict[str, list[str]]:
        """Return the tasks that have not ended of those that an array waits for, by the numbers of arrays.

        Args:
            task: what the arrays depend on.
        """
        left = {other.name for other in self.tasks()}
        found = {}
        for path in (self.cache_dir / "slurm").glob("*/submitted.json"):
            with contextlib.suppress(StoreError):
                content = self._read(path) or {}
                if task.name in content.get("after", ()):
                    found[str(content["number"])] = [name for name in content["after"] if name in left]
        return found

    def submitted_arrays(self) -> list[str]:
        """Return the names of the arrays that were submitted, sorted."""
        return sorted(path.parent.name for path in (self.cache_dir / "slurm").glob("*/submitted.json"))

    def tasks(self) -> list[Task]:
        """Return the tasks of all arrays that have not ended; arrays that cannot be read are left out."""
        found = []
        for name in self.submitted_arrays():
            with contextlib.suppress(StoreError):
                found += self.tasks_of(name)
        return found

    def tasks_of(self, name: str) -> list[Task]:
        """Return the tasks of an array that have not ended; none where it was removed meanwhile.

        Raises:
            StoreError: it is damaged.
        """
        submitted, jobs = (self._read(self.array_dir(name) / file) for file in ("submitted.json", "jobs.json"))
        if submitted is None or jobs is None:
            return []
        try:
            number, listed = str(submitted["number"]), jobs["jobs"]
            tasks = [Task(name, number, i, str(job["key"]), str(job["label"])) for i, job in enumerate(listed)]
        except (KeyError, TypeError) as error:
            raise StoreError(f"{self.array_dir(name)}: holds no jobs of SLURM; delete it") from error
        ended = self.ended(name)
        return [task for task in tasks if task.index not in ended]

    def ended(self, name: str) -> set[int]:
        """Return which tasks of an array have ended."""
        return {int(path.stem) for path in (self.array_dir(name) / "ended").glob("*.json") if path.stem.isdecimal()}

    def task_ended(self, task: Task) -> dict[str, Any] | None:
        """Return how a task ended, or None where it has not, or its file is just being written."""
        try:
            return self._read(self._of_task(task, "ended"))
        except StoreError:
            return None

    def write_task_ended(self, task: Task, content: Mapping[str, Any]) -> None:
        """Store how a task ended."""
        self._write(self._of_task(task, "ended"), content)

    def begun(self, task: Task) -> str | None:
        """Return the node on which segbench began with a task last, or None before it did."""
        try:
            return (self._read(self._of_task(task, "begun")) or {}).get("node")
        except StoreError:
            return None

    def write_task_begun(self, task: Task, node: str) -> None:
        """Store the node on which segbench begins with a task."""
        self._write(self._of_task(task, "begun"), {"node": node})

    def output_file(self, task: Task) -> Path:
        """File of what a task printed."""
        return self.array_dir(task.array) / "output" / f"{task.index}.txt"

    def last_line(self, task: Task) -> str:
        """Return the last line that a task printed, or "" where it printed nothing."""
        try:
            lines = self.output_file(task).read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:200] if lines else ""

    def drop_array(self, name: str) -> None:
        """Remove an array."""
        shutil.rmtree(self.array_dir(name), ignore_errors=True)

    def drop_old_arrays(self) -> None:
        """Remove arrays whose tasks have all ended, an hour after the last: until then a run may look for endings."""
        left = {task.array for task in self.tasks()}
        for path in (self.cache_dir / "slurm").glob("*/ended"):
            with contextlib.suppress(OSError):  # another run removes it as well
                if path.parent.name not in left and time.time() - path.stat().st_mtime > KEPT:
                    self.drop_array(path.parent.name)

    def _of_task(self, task: Task, what: str) -> Path:
        return self.array_dir(task.array) / what / f"{task.index}.json"
