"""A display that also tells the store what runs now, so that `segbench view` can show it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from segbench.execution.execute import Display
from segbench.execution.workers import Update
from segbench.plan.plan import Plan
from segbench.store import Store
from segbench.store.running import forget, tell

EVERY = 0.5
"""Seconds between two writings."""


@contextmanager
def telling(plan: Plan, store: Store, display: Display) -> Iterator[Display]:
    """Yield a display that shows what another one shows, and tells the store; at the end the store forgets it.

    Args:
        plan: what is run.
        store: what hears of it.
        display: the other one.
    """
    try:
        yield _Telling(plan, store, display)
    finally:
        forget(store)


class _Telling:
    def __init__(self, plan: Plan, store: Store, display: Display) -> None:
        self.plan, self.store, self.display = plan, store, display
        self.cells = {sweep.key: [cell.digest for cell in sweep.cells] for sweep in plan.sweeps}
        self.labels: Mapping[str, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.told = 0.0

    def start(self, jobs: Mapping[str, str], cells: int, cached: int, passes: Mapping[str, int]) -> None:
        self.labels = jobs
        self.display.start(jobs, cells, cached, passes)
        self._tell()

    def update(self, update: Update) -> None:
        self.display.update(update)
        self.jobs[update.job] = {
            "job": update.job,
            "label": self.labels.get(update.job, update.job),
            "evaluations": self.cells.get(update.job, []),
            "done": update.done,
            "total": update.total,
            "note": update.note,
        }
        if time.monotonic() - self.told > EVERY:
            self._tell()

    def finish(self, job: str, cells: int, error: str | None) -> None:
        self.jobs.pop(job, None)
        self.display.finish(job, cells, error)
        self._tell()

    def say(self, text: str) -> None:
        self.display.say(text)

    def _tell(self) -> None:
        self.told = time.monotonic()
        tell(self.store, {"matrix": self.plan.matrix.name, "jobs": list(self.jobs.values())})
