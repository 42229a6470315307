"""What the user sees while cells run: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from segbench.execution.workers import Update

PLAIN_EVERY = 15.0
"""Seconds between lines about one job where the output is no terminal."""


class Bars:
    """One bar over all cells, and one for what each worker does now.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=console,
        )
        self.labels: Mapping[str, str] = {}
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def start(self, jobs: Mapping[str, str], cells: int, cached: int) -> None:
        """Draw the bar over all cells."""
        self.labels = jobs
        note = f"{cached} were done already" if cached else ""
        self.overall = self.progress.add_task("cells", total=cells, completed=cached, note=note)

    def update(self, update: Update) -> None:
        """Move a job's bar, drawn when it is first heard of."""
        if update.job not in self.tasks:
            label = self.labels.get(update.job, update.job)
            self.tasks[update.job] = self.progress.add_task(f"  {label}", total=update.total, note="")
        task = self.tasks[update.job]
        self.progress.update(task, completed=update.done, total=update.total, note=update.note)

    def finish(self, job: str, cells: int, error: str | None) -> None:
        """Remove a job's bar and count its cells."""
        if job in self.tasks:
            self.progress.remove_task(self.tasks.pop(job))
        self.progress.advance(self.overall, cells)
        if error is not None:
            self.progress.console.print(f"failed: {self.labels.get(job, job)}: {error}", style="red", markup=False)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


class Lines:
    """A line now and then, for logs.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.labels: Mapping[str, str] = {}
        self.said: dict[str, float] = {}
        self.cells = self.done = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, jobs: Mapping[str, str], cells: int, cached: int) -> None:
        """Say how much there is to do."""
        self.labels, self.cells, self.done = jobs, cells, cached
        of_cells, of_jobs = (f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in ((cells, "cell"), (len(jobs), "job")))
        self._print(f"{of_cells}, {cached} done already, {of_jobs} to run")

    def update(self, update: Update) -> None:
        """Say how far a job is, when it has not been mentioned for a while."""
        now = time.monotonic()
        if now - self.said.get(update.job, 0.0) >= PLAIN_EVERY:
            self.said[update.job] = now
            self._print(f"{self.labels.get(update.job, update.job)}: {update.done}/{update.total}, {update.note}")

    def finish(self, job: str, cells: int, error: str | None) -> None:
        """Say that a job ended."""
        self.done += cells
        how = "done" if error is None else f"failed: {error}"
        self._print(f"[{self.done}/{self.cells} cells] {self.labels.get(job, job)}: {how}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def display(console: Console) -> Bars | Lines:
    """Return bars for a terminal and lines for everything else."""
    return Bars(console) if console.is_terminal else Lines(console)
