"""Items that threads read ahead, while whoever asked for them works on earlier ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

import torch

Key = TypeVar("Key")
Item = TypeVar("Item")

MOST_THREADS = 8
"""Threads that read for one job at most."""


class ReadAhead(Generic[Key, Item]):
    """Items in the order of their keys. What is read does not depend on the number of threads.

    Args:
        read: a key -> its item; several threads call it at once.
        keys: what to read.
        threads: number of threads; 0 to read each item when it is asked for.
        ahead: items that are read, or being read, beyond the one that is asked for; may be changed while items are
            taken.

    Attributes:
        waited: seconds in which an item was asked for and not there.
    """

    def __init__(self, read: Callable[[Key], Item], keys: Iterable[Key], *, threads: int, ahead: int) -> None:
        self.read, self.keys, self.threads, self.ahead = read, keys, threads, ahead
        self.waited = 0.0

    def __iter__(self) -> Iterator[Item]:
        keys = iter(self.keys)
        if not self.threads:
            yield from (self._timed(partial(self.read, key)) for key in keys)
            return
        begun: deque[Future[Item]] = deque()
        pool = ThreadPoolExecutor(self.threads, "read-ahead", initializer=torch.set_num_threads, initargs=(1,))
        try:
            while True:
                # One more than `ahead`, which is asked for now: what follows is read while that is worked on.
                begun.extend(pool.submit(self.read, key) for key in islice(keys, max(0, self.ahead + 1 - len(begun))))
                if not begun:
                    return
                yield self._timed(begun.popleft().result)
        finally:
            pool.shutdown(cancel_futures=True)
            # What a thread sets for itself, torch gives to every thread that starts later.
            torch.set_num_threads(torch.get_num_threads())

    def _timed(self, get: Callable[[], Item]) -> Item:
        asked = time.monotonic()
        item = get()
        self.waited += time.monotonic() - asked
        return item


def fitting(threads: int | None, device: torch.device) -> int:
    """Return how many threads read for a job.

    Args:
        threads: number that the user asked for; None for as many as the job has on a GPU, and for one on a CPU, whose
            other threads run the network.
        device: where the network runs.
    """
    if threads is not None:
        return threads
    return min(MOST_THREADS, torch.get_num_threads()) if device.type == "cuda" else 1


def waiting(label: str, seconds: float, waited: float) -> str:
    """Say for how much of some work the network waited for what is read, in a sentence.

    Args:
        label: of the work.
        seconds: that it took.
        waited: of these, in which an item was not there.
    """
    return f"{label}: {seconds:.1f} s, of which the network waited {waited / max(seconds, 1e-9):.1%} for images"
