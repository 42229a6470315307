"""Processor time, side by side: each piece of work in turn, several times, and the least of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def interleaved(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least processor seconds of each piece of work.

    Whatever else the machine does falls on all of them alike, because they take turns.

    Args:
        works: what is timed, by its name; each is done once beforehand.
        rounds: how often each is timed.
    """
    for work in works.values():
        work()
    least = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            started = time.process_time()
            work()
            least[name] = min(least[name], time.process_time() - started)
    return least
