"""A display that also hears for trackers: it reads in the store what has come, and passes it on."""

from __future__ import annotations

import csv
import io
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from segbench.errors import SegbenchError, StoreError, describe
from segbench.execution.execute import Display
from segbench.execution.workers import Update
from segbench.plan.plan import Plan
from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.result import Result
from segbench.store import Store
from segbench.tracking.backends import starter
from segbench.tracking.base import Begun, Tracker
from segbench.tracking.config import config_of
from segbench.tracking.examples import example

READ_EVERY = 2.0
"""Seconds between looks at the course of a training."""
COLUMNS_APART = ("epoch", "iteration")


@contextmanager
def tracked(plan: Plan, store: Store, display: Display) -> Iterator[Listener]:
    """Yield a display that shows what another one shows, and lets the trackers of a matrix hear of its run.

    Args:
        plan: what is run; its matrix says which trackers hear of it.
        store: where results go.
        display: the other one.

    Raises:
        SegbenchError: the package of a tracker is missing, or the tracker cannot start.
    """
    matrix = plan.matrix
    starters = {name: starter(name) for name in dict.fromkeys(matrix.runtime.track)}
    begun = Begun(matrix.name, time.strftime("%Y%m%d-%H%M%S"), config_of(matrix) if starters else {}, store.root)
    listener = Listener(plan, store, display, {name: start(begun) for name, start in starters.items()})
    failed = True
    try:
        yield listener
        failed = False
    finally:
        listener.tell(lambda tracker: tracker.close(failed))


class Listener:
    """See `tracked`.

    Args:
        plan: what is run.
        store: where results go.
        display: the display that shows it.
        trackers: by name.
    """

    def __init__(self, plan: Plan, store: Store, display: Display, trackers: Mapping[str, Tracker]) -> None:
        self.plan, self.store, self.display, self.trackers = plan, store, display, dict(trackers)
        self.cells = {sweep.key: [cell.digest for cell in sweep.cells] for sweep in plan.sweeps}
        self.trainings = {cell.digest: cell.network() for cell in plan.trainings}
        self.labels = Labels(plan.manifest(None).records)
        self.rows: dict[str, int] = {}
        self.read: dict[str, float] = {}
        self.passed: set[str] = set()

    def start(self, jobs: Mapping[str, str], cells: int, cached: int, passes: Mapping[str, int]) -> None:
        """Begin, and pass on what was there before."""
        self.display.start(jobs, cells, cached, passes)
        if self.trackers:
            for digest in self.trainings:
                if digest not in jobs:
                    self._course(digest)
            for key, digests in self.cells.items():
                if key not in jobs:
                    self._evaluations(digests)

    def update(self, update: Update) -> None:
        """Show how far a job is; now and then pass on the course of a training."""
        self.display.update(update)
        now = time.monotonic()
        if update.job in self.trainings and now - self.read.get(update.job, 0.0) > READ_EVERY:
            self.read[update.job] = now
            self._course(update.job)

    def finish(self, job: str, cells: int, error: str | None) -> None:
        """Show that a job ended, and pass on what it found."""
        self.display.finish(job, cells, error)
        if job in self.trainings:
            self._course(job)
        else:
            self._evaluations(self.cells.get(job, []))

    def say(self, text: str) -> None:
        """Show a line."""
        self.display.say(text)

    def report(self, result: Result) -> None:
        """Pass on the report, and the results that no job has passed on."""
        if self.trackers:
            self._evaluations([record.digest for record in result.records])
            paths = result.report()
            self.tell(lambda tracker: tracker.report(paths))

    def tell(self, call: Callable[[Tracker], None]) -> None:
        """Let every tracker hear something; one that fails is said aloud and hears nothing more."""
        for name, tracker in list(self.trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # whatever the library or its network raises: the run goes on
                del self.trackers[name]
                self.display.say(f"--track {name}: {describe(error)}; it hears nothing more of this run")

    def _course(self, digest: str) -> None:
        """Pass on the rows of a training that have come since the last look."""
        if not self.trackers:
            return
        try:
            path = self.store.history(digest)
        except StoreError:
            return
        if path is None:
            return
        name = f"train/{as_name(self.labels.run(self.trainings[digest]))}"
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        for row in rows[self.rows.get(digest, 0) :]:
            values = {key: float(value) for key, value in row.items() if key not in COLUMNS_APART and value}
            finite = {as_name(key): value for key, value in values.items() if math.isfinite(value)}
            iteration = int(float(row["iteration"]))
            self.tell(lambda tracker, v=finite, i=iteration: tracker.curve(name, v, i))  # type: ignore[misc]
        self.rows[digest] = len(rows)

    def _evaluations(self, digests: list[str]) -> None:
        """Pass on metrics and images of evaluations that are done."""
        for digest in digests:
            if not self.trackers or digest in self.passed:
                continue
            try:
                record = self.store.record(digest)
            except SegbenchError:
                continue
            if record is None or record.scores is None:
                continue
            self.passed.add(digest)
            name, scores = self._name(record), record.scores
            values = {"miou": scores.miou, "macc": scores.macc, "aacc": scores.aacc}
            self.tell(lambda tracker, n=name, v=values: tracker.results(f"eval/{n}", v))  # type: ignore[misc]
            examples = [example(kept) for kept in self.store.kept_images(digest)]
            if examples:
                self.tell(lambda tracker, n=name, e=examples: tracker.images(f"images/{n}", e))  # type: ignore[misc]

    def _name(self, record: Record) -> str:
        """Return the name of an evaluation: dataset, network, and attack, with its source where that is another one."""
        attack = record.attack.short
        if record.setting == "black-box":
            attack += f" from {self.labels.run(record.source)}"
        if record.oblivious:
            attack += " oblivious"
        return "/".join(
            map(as_name, (self.labels.component("dataset", record.dataset), self.labels.run(record.target), attack))
        )


def as_name(text: str) -> str:
    """Return a text as every tracker takes it for a name: "bim(steps=3)" becomes "bim-steps-3"."""
    return re.sub(r"[ -]*[^A-Za-z0-9_. -][^A-Za-z0-9_.]*", "-", text).strip("- ") or "-"
