"""A process that does jobs: the way back to whoever waits for them, its device and its threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Any, NamedTuple, Protocol

import torch

from segbench.errors import SegbenchError, Stopped
from segbench.processors import usable


class Update(NamedTuple):
    """How far a job is.

    Attributes:
        job: its digest or key.
        worker: who does it.
        done: steps done.
        total: steps in all.
        note: current loss or mIoU and rate.
    """

    job: str
    worker: int
    done: int
    total: int
    note: str


class Channel(Protocol):
    """The way from a job back to the one who waits for it."""

    def send(self, update: Update) -> None:
        """Tell how far a job is."""
        ...

    def say(self, text: str) -> None:
        """Tell something that is worth a line."""
        ...

    def stopping(self) -> bool:
        """Whether the user asked to stop."""
        ...


class Heard(Protocol):
    """Something that hears how far a job is."""

    def update(self, done: int, total: int, note: str) -> None:
        """The job went on."""
        ...


class JobReporter:
    """A `Reporter` that talks through a channel.

    Args:
        channel: where updates go.
        job: the job's digest or key.
        heartbeat: hears of updates too, and tells the store.
    """

    def __init__(self, channel: Channel, job: str, heartbeat: Heard) -> None:
        self.channel = channel
        self.job = job
        self.heartbeat = heartbeat

    def update(self, done: int, total: int, note: str) -> None:
        """Report progress; raises `Stopped` once the user asked to stop."""
        self.heartbeat.update(done, total, note)
        self.channel.send(Update(self.job, os.getpid(), done, total, note))
        if done < total:
            self.check()

    def check(self) -> None:
        """Raise `Stopped` once the user asked to stop."""
        if self.channel.stopping():
            raise Stopped

    def say(self, text: str) -> None:
        """Tell the user something that is worth a line."""
        self.channel.say(text)


class QueueChannel:
    """A channel between processes."""

    def __init__(self, queue: Queue[Update | str], stop: Event) -> None:
        self.queue = queue
        self.stop = stop

    def send(self, update: Update) -> None:
        """Put an update into the queue."""
        self.queue.put(update)

    def say(self, text: str) -> None:
        """Put a line into the queue."""
        self.queue.put(text)

    def stopping(self) -> bool:
        """Whether the stop event is set."""
        return self.stop.is_set()


class Hears(Protocol):
    """The part of a display that a job reaches."""

    def update(self, update: Update) -> None:
        """A job went on."""
        ...

    def say(self, text: str) -> None:
        """Something is worth a line."""
        ...


class DirectChannel:
    """A channel that leads straight to a display in the same process.

    Args:
        display: hears of progress.
        stop: set once jobs are to stop.
    """

    def __init__(self, display: Hears, stop: threading.Event) -> None:
        self.display = display
        self.stop = stop

    def send(self, update: Update) -> None:
        """Show an update."""
        self.display.update(update)

    def say(self, text: str) -> None:
        """Show a line."""
        self.display.say(text)

    def stopping(self) -> bool:
        """Whether the stop event is set."""
        return self.stop.is_set()


_channel: Channel | None = None
_device = torch.device("cpu")


def here() -> tuple[Channel, torch.device]:
    """Return the channel and the device of the process that this is called in."""
    if _channel is None:
        raise RuntimeError("this process was not set up to run jobs; see segbench.execution.workers")
    return _channel, _device


def set_up(channel: Channel, device: torch.device, threads: int) -> None:
    """Make this process ready to run jobs."""
    global _channel, _device
    _channel, _device = channel, device
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)


def local(devices: list[torch.device], threads: int, queue: Queue[Update | str], stop: Event) -> Executor:
    """Return an executor of spawned processes; each takes one of the devices and `threads` threads.

    Args:
        devices: a device for each worker.
        threads: CPU threads of each worker.
        queue: where workers put updates.
        stop: set once jobs are to stop.
    """
    context = multiprocessing.get_context("spawn")
    pool: Queue[str] = context.Queue()
    for device in devices:
        pool.put(str(device))
    return ProcessPoolExecutor(len(devices), context, initializer=_start, initargs=(pool, threads, queue, stop))


def _start(pool: Queue[str], threads: int, queue: Queue[Update | str], stop: Event) -> None:
    # The terminal sends Ctrl-C to every process; the parent hears it and asks the workers to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    set_up(QueueChannel(queue, stop), torch.device(pool.get()), threads)


def _die_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)


def resolve_devices(device: str, workers: int | None, jobs: int) -> list[torch.device]:
    """Return a device for each worker: every GPU for "auto" and "cuda", else the one that is named.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        workers: number of workers asked for; None for what fits the machine.
        jobs: number of jobs that could run at once; no more processes share a CPU. Sweeps are split for more GPUs.

    Raises:
        SegbenchError: this machine has no such device.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if available else "cpu"
    if device == "cpu":
        return [torch.device("cpu")] * (workers or max(1, min(usable(), jobs)))
    if not available:
        raise SegbenchError(f"--device {device}: torch finds no CUDA device on this machine; use --device cpu or auto")
    if device == "cuda":
        count = workers or available
        return [torch.device("cuda", index % available) for index in range(count)]
    index = torch.device(device).index or 0
    if index >= available:
        raise SegbenchError(f"--device {device}: this machine has {available} CUDA device(s), counted from cuda:0")
    return [torch.device(device)] * (workers or 1)
