"""Which engine runs a plan, and how many threads a job gets there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from segbench.config.matrix import Runtime
from segbench.execution import workers
from segbench.execution.engines import sbatch, slurm
from segbench.execution.engines.base import Engine
from segbench.execution.engines.local import Processes, ThisProcess
from segbench.execution.engines.probe import probe
from segbench.processors import SPINNING, left_by_others, usable
from segbench.store import Store


@dataclass(frozen=True)
class Chosen:
    """An engine that was found, before it starts.

    Attributes:
        threads: CPU threads that fit each job.
        at_once: jobs that can run at once, as far as that is known.
        make: threads, number of jobs, display, event that is set once the user asks to stop -> the engine.
    """

    threads: int
    at_once: int
    make: Callable[[int, int, workers.Hears, threading.Event], Engine]


def chosen(store: Store, runtime: Runtime, count: int) -> Chosen:
    """Find the engine that a runtime names.

    Args:
        store: the store, which other machines must be able to share with this one, unless the engine is "local".
        runtime: names the engine.
        count: number of jobs in all.

    Raises:
        SegbenchError: its library, its commands or its cluster is not there, or there is no such device.
        StoreError: the file system of the store cannot be shared.
    """
    if runtime.engine == "local":
        return _local(store, runtime, count)
    probe(store.root)
    if runtime.engine == "slurm":
        sbatch.available()
        given = slurm.options(runtime).get("cpus_per_task", "1")
        threads = max(1, int(given)) if given.isdecimal() else 1
        at_once = slurm.at_once(runtime)
        return Chosen(threads, at_once, lambda threads, jobs, shown, stop: slurm.SlurmEngine(store, runtime, threads))
    from segbench.execution.engines import ray

    cluster = ray.connect(store, runtime)
    return Chosen(cluster.threads, cluster.together, lambda threads, jobs, shown, stop: ray.RayEngine(cluster, threads))


def _local(store: Store, runtime: Runtime, count: int) -> Chosen:
    devices = workers.resolve_devices(runtime.device, runtime.workers, count)
    alone = len(devices) == 1
    # Threads that spin beside other busy processes take many times as long as one thread.
    free = left_by_others() if SPINNING and alone else usable()
    # The user may have asked for fewer, by OMP_NUM_THREADS or torch.set_num_threads.
    threads = max(1, min(torch.get_num_threads(), free // len(devices)))

    def make(threads: int, jobs: int, shown: workers.Hears, stop: threading.Event) -> Engine:
        if alone:
            return ThisProcess(store.root, runtime, devices[0], threads, shown, stop)
        return Processes(store.root, runtime, devices[: max(1, jobs)], threads)

    return Chosen(threads, len(devices), make)
