"""One job, done in the process that this is called in, on whichever machine that is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from segbench.config.matrix import Runtime
from segbench.errors import Busy, SegbenchError, Stopped, StoreError, describe
from segbench.evaluation.sweep import run_sweep
from segbench.execution import workers
from segbench.execution.board import Ended, Job
from segbench.execution.heartbeat import Heartbeat
from segbench.files import acquire
from segbench.plan.evaluations import EvalCell
from segbench.plan.plan import Sweep
from segbench.store import Store
from segbench.training.train import run_training


def work(key: str, job: Job, root: Path, runtime: Runtime) -> Ended:
    """Do a job; a failure is stored.

    Args:
        key: digest of a training, or key of a sweep or shard.
        job: the job.
        root: folder of the store.
        runtime: how.

    Raises:
        Stopped: the user asked to stop; a checkpoint was written.
    """
    channel, device = workers.here()
    store = Store(root)
    try:
        _see_that_it_is_free(job, store)
        with Heartbeat(store, key, job, runtime.engine) as heartbeat:
            reporter = workers.JobReporter(channel, key, heartbeat)
            if isinstance(job, Sweep):
                run_sweep(job, store, runtime, device, reporter)
            else:
                run_training(job, store, runtime, device, reporter)
    except Stopped:
        raise
    except Busy:
        return Ended(elsewhere=True)
    except (Exception, SystemExit) as error:  # a network of a user's may end its script
        store_failure(job, store, error)
        return Ended(describe(error))
    return Ended()


def _see_that_it_is_free(job: Job, store: Store) -> None:
    """See that no other process does a job: the heartbeat would tell of this one in its place.

    Raises:
        Busy: one does.
    """
    lock = store.sweep_lock(job.key, job.shard) if isinstance(job, Sweep) else store.training_lock(job.digest)
    acquire(lock, job.label)
    lock.release()


def store_failure(job: Job, store: Store, error: Exception | SystemExit) -> None:
    """Store why a job failed; where even that cannot be written, the error of the job is what counts."""
    with contextlib.suppress(StoreError):
        if isinstance(job, Sweep):
            for cell in job.cells:
                _fail_cell(cell, store, error)
        else:
            store.write_training_failure(job.digest, error, job.to_plain())


def without_failed(sweep: Sweep, failed: Mapping[str, str], store: Store) -> Sweep | None:
    """Fail the evaluations of a sweep that need a network which could not be trained, and return the rest.

    Targets that were trained are still worth scoring.

    Args:
        sweep: the sweep.
        failed: reason of each failed training, with its label, by its digest.
        store: where failures go.

    Returns:
        The sweep of what can be done, or None where nothing can.
    """
    kept = []
    for cell in sweep.cells:
        reason = failed.get(cell.target.digest) or failed.get(cell.source.digest)
        if reason is None:
            kept.append(cell)
        else:
            _fail_cell(cell, store, SegbenchError(reason))
    return replace(sweep, cells=tuple(kept)) if kept else None


def _fail_cell(cell: EvalCell, store: Store, error: Exception | SystemExit) -> None:
    if not store.current(cell.digest):
        record = cell.expected().model_copy(update={"status": "failed", "error": describe(error)})
        store.write_failed_record(record, error)
