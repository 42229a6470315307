"""How far the matrices of a store are, from its files alone: done, running, waiting, failed, left."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from segbench.errors import StoreError
from segbench.reports.records import Manifest
from segbench.store.running import Running
from segbench.store.store import Store


@dataclass(frozen=True)
class Failure:
    """A training or an evaluation that failed.

    Attributes:
        digest: its digest.
        label: what it is.
        reason: why, as a sentence.
    """

    digest: str
    label: str
    reason: str


@dataclass(frozen=True)
class MatrixStatus:
    """How far a matrix is, in cells: trainings and evaluations.

    Attributes:
        name: of the matrix.
        total: cells in all.
        done: cells that are done.
        running: cells of jobs that run.
        failed: cells that failed.
        left: cells that are none of these.
    """

    name: str
    total: int
    done: int
    running: int
    failed: int
    left: int


@dataclass(frozen=True)
class Status:
    """How far a store is.

    Attributes:
        store: its folder.
        matrices: how far each matrix is.
        running: jobs under way.
        lost: jobs of which nothing was heard for a minute, or whose process died; the next run takes them up.
        waiting: what waits in SLURM's queue: its name for the task, and the job.
        failures: what failed, each once.
        damaged: manifests and lists of SLURM's jobs that cannot be read, and what to do, a sentence each.
        now: when this was so, by the clock of the store's file system.
    """

    store: str
    matrices: tuple[MatrixStatus, ...]
    running: tuple[Running, ...]
    lost: tuple[Running, ...]
    waiting: tuple[tuple[str, str], ...]
    failures: tuple[Failure, ...]
    damaged: tuple[str, ...]
    now: float

    def plain(self) -> dict[str, Any]:
        """Return the same as JSON can hold it."""
        return {
            "store": self.store,
            "now": self.now,
            "matrices": [asdict(matrix) for matrix in self.matrices],
            "running": [_job(job) for job in self.running],
            "lost": [_job(job) for job in self.lost],
            "waiting": [{"task": task, "label": label} for task, label in self.waiting],
            "failures": [asdict(failure) for failure in self.failures],
            "damaged": list(self.damaged),
        }


def status(store: Store) -> Status:
    """Return how far the matrices of a store are.

    Raises:
        StoreError: there is no such store.
    """
    if not store.root.is_dir():
        raise StoreError(f"{store.root}: there is no such store; name one that segbench run has written")
    jobs, now = store.running(), store.clock()
    under_way = [job for job in jobs if not job.lost(now)]
    cells = {digest for job in under_way for digest in job.cells}
    failures: dict[str, Failure] = {}
    matrices, damaged, tasks = [], [], []
    for name in store.manifests():
        try:
            manifest = store.manifest(name, filled=False)
        except StoreError as error:
            damaged.append(str(error))
            continue
        if manifest is not None:
            matrices.append(_matrix(manifest, store, cells, failures))
    for name in store.submitted_arrays():
        try:
            tasks += store.tasks_of(name)
        except StoreError as error:
            damaged.append(str(error))
    keys = {job.key for job in under_way}
    waiting = [(task.name, task.label) for task in tasks if task.key not in keys and not _is_done(task.key, store)]
    lost = [job for job in jobs if job not in under_way and not all(_is_done(cell, store) for cell in job.cells)]
    return Status(
        str(store.root),
        tuple(matrices),
        tuple(under_way),
        tuple(lost),
        tuple(waiting),
        tuple(failures.values()),
        tuple(damaged),
        now,
    )


def _matrix(manifest: Manifest, store: Store, running: set[str], failures: dict[str, Failure]) -> MatrixStatus:
    labels: dict[str, str] = {}
    for record in manifest.records:
        for network in (record.target, record.source):
            if network.recipe:
                labels[network.digest] = f"{network.model.short} {network.defense.short} seed {network.seed}"
    for record in manifest.records:
        if record.status == "not applicable":
            continue
        labels[record.digest] = f"{record.attack.short} on {record.target.model.short} {record.target.defense.short}"
    counts = {"done": 0, "running": 0, "failed": 0, "left": 0}
    for digest, label in labels.items():
        if digest in running:
            counts["running"] += 1
        elif _is_done(digest, store):
            counts["done"] += 1
        elif (reason := _failure(digest, store)) is not None:
            counts["failed"] += 1
            failures[digest] = Failure(digest, label, reason)
        else:
            counts["left"] += 1
    return MatrixStatus(manifest.name, len(labels), **counts)


def _is_done(digest: str, store: Store) -> bool:
    return store.evaluated(digest) or (store.train_dir(digest) / "done.json").is_file()


def _failure(digest: str, store: Store) -> str | None:
    try:
        reason = store.training_failure(digest)
        if reason is None and (record := store.record(digest)) is not None and record.status == "failed":
            reason = record.error or "failed"
    except StoreError as error:
        return str(error)
    return reason


def _job(job: Running) -> dict[str, Any]:
    return {**asdict(job), "left_seconds": job.left()}
