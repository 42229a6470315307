"""Ray as an engine: each training or sweep is a task with its share of processors and GPUs.

Ray only places tasks. Progress, checkpoints and results go through the store, as with every engine.

Source: https://docs.ray.io/en/latest/ray-core/api/doc/ray.remote_function.RemoteFunction.options.html
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.config.matrix import Runtime
from segbench.errors import SegbenchError, Stopped
from segbench.execution.board import Ended, Job
from segbench.execution.engines import remote
from segbench.execution.engines.base import Lost, Refused, outcome_of
from segbench.execution.workers import Update
from segbench.files import write_bytes
from segbench.plan.as_data import job_to_plain
from segbench.processors import usable
from segbench.store import Store

ASK_EVERY = 5.0
"""Seconds between two looks whether the head of a cluster is there."""
HEAD_GONE = 20.0
"""Seconds without an answer after which it is not; Ray itself would end this process, after 60 s, without a word."""


@dataclass(frozen=True)
class Cluster:
    """A cluster of Ray that this process belongs to.

    Attributes:
        store: on a folder that its nodes share.
        runtime: how jobs run.
        threads: CPU threads that fit each job.
        share: GPUs of each job; 0 where there are none or they are not to be used.
        together: jobs for which it has room now.
        jobs: jobs that are handed to it at once, at most.
        own: whether this run has started it, and ends it.
    """

    store: Store
    runtime: Runtime
    threads: int
    share: float
    together: int
    jobs: int
    own: bool


def connect(store: Store, runtime: Runtime) -> Cluster:
    """Join the cluster that a runtime names, or start one on this machine.

    Raises:
        SegbenchError: Ray is not installed, there is no such cluster, or a node does not see the store.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        ray = _ray()
    except ImportError as error:
        raise SegbenchError("--engine ray: Ray is not installed; pip install 'segbench[ray]'") from error
    own = runtime.address is None and not ray.is_initialized()
    if not ray.is_initialized():
        _answers(runtime.address)
        new = {"num_cpus": max(usable(), runtime.workers or 1), "include_dashboard": False} if own else {}
        try:
            ray.init(address=runtime.address or "local", log_to_driver=False, logging_level="ERROR", **new)
        except Exception as error:  # Ray raises bare ones too, such as for a machine that is too busy to start it
            reason = " ".join(str(error).split())[:300]
            if own:
                raise SegbenchError(
                    f"--engine ray: Ray does not start on this machine ({reason}); try again"
                ) from error
            advice = (
                "install its versions here, or start a cluster with those of here"
                if reason.startswith("Version mismatch")
                else "start one with ray start --head, set RAY_AUTH_MODE=token if it asks for a token, or leave "
                "--address out"
            )
            raise SegbenchError(
                f"--address {runtime.address}: no cluster of Ray lets us in there ({reason}); {advice}"
            ) from error
    if not own:
        _seen_by_all(store)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(node.get("GPU", 0.0) for node in nodes) if runtime.device != "cpu" else 0.0
    if runtime.device.startswith("cuda") and not gpus:
        raise SegbenchError(f"--device {runtime.device}: the cluster of Ray has no GPU; use --device cpu or auto")
    processors = sum(node.get("CPU", 0.0) for node in nodes)
    smallest = min((node["CPU"] for node in nodes if node.get("CPU")), default=1.0)
    together = runtime.workers or int(gpus or processors) or 1
    threads = max(1, min(int(processors // together), int(smallest)))
    share = min(1.0, gpus / together) if gpus else 0.0
    return Cluster(store, runtime, threads, share, together, runtime.workers or sys.maxsize, own)


def _answers(address: str | None) -> None:
    """See that somebody listens where a cluster should be: Ray would try for three minutes.

    Raises:
        SegbenchError: nobody does, or the address is no HOST:PORT.
    """
    name, where = ("RAY_ADDRESS", os.environ.get("RAY_ADDRESS")) if address == "auto" else ("--address", address)
    if where is None:
        return
    host, _, port = where.rpartition(":")
    if not port.isdecimal() or "/" in host:
        raise SegbenchError(f"{name} {where}: expected HOST:PORT, such as 10.0.0.1:6379, or auto")
    if (fault := _fault(where)) is not None:
        raise SegbenchError(
            f"{name} {where}: no cluster of Ray answers there ({fault}); start one with ray start --head, or leave "
            "--address out"
        )


def _fault(address: str) -> str | None:
    """Return why nobody can be reached at HOST:PORT, or None where somebody can."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError, UnicodeError) as error:
        return str(error)
    return None


class RayEngine:
    """Gives jobs to a cluster of Ray.

    Args:
        cluster: the cluster.
        threads: CPU threads of each job.
    """

    tries = 3
    advice = "its nodes or processes died, perhaps for want of memory: try fewer --workers"

    def __init__(self, cluster: Cluster, threads: int) -> None:
        ray = _ray()
        self.cluster, self.store = cluster, cluster.store
        self.slots = cluster.jobs
        self.shared = remote.envelope(cluster.runtime, threads)
        # Of this run alone: others may run on the same store.
        self.stop_file = self.store.cache_dir.resolve() / f"stop-{uuid.uuid4().hex[:8]}"
        largest = max((node["Resources"].get("CPU", 1.0) for node in ray.nodes() if node["Alive"]), default=1.0)
        self.needs = {"CPU": max(1.0, min(threads, largest)), "GPU": cluster.share}
        self.task: Any = ray.remote(num_cpus=self.needs["CPU"], num_gpus=cluster.share, max_retries=0)(_task)
        self.room = True
        self.waiting: dict[str, Future[Ended]] = {}
        self.progress = remote.Progress(self.store)
        self.head = ray.get_runtime_context().gcs_address
        self.looked = self.answered = self.asked = time.monotonic()

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop_file.unlink(missing_ok=True)
        if self.cluster.own:
            _ray().shutdown()

    def offer(self, jobs: Mapping[str, Job]) -> None:
        """Nothing is to be prepared."""

    def submit(self, key: str, job: Job) -> Future[Ended]:
        """Give a job to Ray, which starts it where its share is free."""
        reference = self.task.remote(self.shared, str(self.stop_file), key, job_to_plain(job))
        self.waiting[key] = future = outcome_of(reference.future(), _outcome)
        return future

    def news(self) -> Iterable[Update | str]:
        """Return the progress that jobs have told the store, and that no node has room for them, if so.

        Raises:
            SegbenchError: the head of the cluster has ended, and all tasks with it.
        """
        now = time.monotonic()
        if now - self.asked > ASK_EVERY:
            self.asked = now
            if (fault := _fault(self.head)) is None:
                self.answered = now
                if lacking := self._lacking():
                    return (lacking,)
            elif now - self.answered > HEAD_GONE:
                raise SegbenchError(
                    f"--engine ray: the head of the cluster at {self.head} does not answer any more ({fault}); start "
                    "it and run the matrix again: its jobs go on from their checkpoints"
                )
        if now - self.looked < remote.LOOK_EVERY:
            return ()
        self.looked = now
        self.waiting = {key: future for key, future in self.waiting.items() if not future.done()}
        return self.progress.of(self.waiting)

    def _lacking(self) -> str:
        """Say, once, that jobs wait for a node that is not there, which an autoscaler may still start."""
        nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        room, before = any(all(node.get(k, 0.0) >= n for k, n in self.needs.items()) for node in nodes), self.room
        self.room = room
        asked = " and ".join(f"{name} {number:g}" for name, number in self.needs.items() if number)
        return f"no node of the Ray cluster has {asked}; jobs wait until one joins" if before and not room else ""

    def stop(self) -> None:
        """Ask all tasks to stop, those too that have not begun."""
        write_bytes(self.stop_file, b"")


def _ray() -> Any:
    """Import Ray, which takes a second and is not always installed."""
    return importlib.import_module("ray")


def _task(shared: Mapping[str, Any], stop_file: str, key: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job on the node that Ray has chosen."""
    ear = remote.Ear(threading.Event(), Path(stop_file))
    if ear.stopping():
        return {"stopped": True}
    try:
        return remote.do(shared, key, plain, ear, remote.VISIBLE)._asdict()
    except Stopped:
        return {"stopped": True}
    except Refused as error:
        return {"refused": str(error)}


def _outcome(ended: Future[Any]) -> Ended:
    errors = _ray().exceptions
    try:
        found = ended.result()
    except errors.RayTaskError:
        raise
    except errors.RayError as error:
        raise Lost("its process or node died") from error
    if "stopped" in found:
        raise Stopped
    if "refused" in found:
        raise Refused(found["refused"])
    return Ended(found["error"], found["elsewhere"], tuple(found["said"]))


def _seen_by_all(store: Store) -> None:
    """See that every node reads what this machine writes in the store, and that it has the same segbench.

    Raises:
        SegbenchError: naming the nodes where that is not so.
    """
    ray = _ray()
    on_node: Any = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    sign, content = store.cache_dir / f"sign-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    sign.parent.mkdir(parents=True, exist_ok=True)
    sign.write_text(content)
    nodes = {node["NodeID"]: node["NodeName"] for node in ray.nodes() if node["Alive"]}  # names may be the same
    looking: Any = ray.remote(num_cpus=0, max_retries=0)(_look)
    try:
        asked = {
            node: looking.options(scheduling_strategy=on_node(node, soft=False)).remote(str(sign.resolve()))
            for node in nodes
        }
        found = {node: ray.get(answer, timeout=120) for node, answer in asked.items()}
    except ray.exceptions.RayError as error:
        raise SegbenchError(
            f"--engine ray: a node cannot run segbench ({' '.join(str(error).split())[-300:]}); install the same "
            "segbench on every node"
        ) from error
    finally:
        sign.unlink(missing_ok=True)
    others = {nodes[node] for node, (_, code) in found.items() if code != remote.code()}
    if others:
        raise SegbenchError(
            f"--engine ray: {', '.join(sorted(others))} has another segbench than this machine; install the same on "
            "every node"
        )
    blind = {nodes[node] for node, (seen, _) in found.items() if seen != content}
    if blind:
        raise SegbenchError(
            f"{store.root}: {', '.join(sorted(blind))} cannot see the files that this machine writes there; name a "
            "--store on a folder that all nodes share"
        )


def _look(path: str) -> tuple[str, str]:
    """Return what a file of the store holds on the node that this runs on, and a hash of the segbench there."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(), remote.code()
    except OSError:
        return "", remote.code()
