"""What the user sees while cells run: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:
    from segbench.execution.workers import Update

PLAIN_EVERY = 15.0
"""Seconds between lines about one job where the output is no terminal."""


class Bars:
    """One bar over the passes of all jobs, and one for what each worker does now.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            _Label(table_column=Column(ratio=1)),
            BarColumn(bar_width=12 if console.width < 100 else 24, table_column=Column(no_wrap=True)),
            _Count(table_column=Column(no_wrap=True, justify="right")),
            _Remaining(table_column=Column(no_wrap=True, justify="right")),
            TextColumn("{task.fields[note]}", markup=False, style="dim", table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
        )
        self.labels: Mapping[str, str] = {}
        self.passes: Mapping[str, int] = {}
        self.tasks: dict[str, TaskID] = {}
        self.shares: dict[str, float] = {}
        self.ended = 0

    def __enter__(self) -> Bars:
        self.overall = self.progress.add_task("preparing", total=None, note="", count="")
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def start(self, jobs: Mapping[str, str], cells: int, cached: int, passes: Mapping[str, int]) -> None:
        """Draw the bar over all jobs."""
        self.labels, self.passes, self.cells, self.done = jobs, passes, cells, cached
        note = f"{cached} were done already" if cached else ""
        self.progress.reset(self.overall, total=max(1, sum(passes.values())), description="cells", note=note)
        self._advance()

    def update(self, update: Update) -> None:
        """Move a job's bar, drawn when it is first heard of."""
        if update.job not in self.tasks:
            label = self.labels.get(update.job, update.job)
            self.tasks[update.job] = self.progress.add_task(f"  {label}", total=update.total, note="")
        task = self.tasks[update.job]
        self.progress.update(task, completed=update.done, total=update.total, note=update.note)
        self.shares[update.job] = update.done / max(1, update.total)
        self._advance()

    def finish(self, job: str, cells: int, error: str | None) -> None:
        """Remove a job's bar and count its cells."""
        if job in self.tasks:
            self.progress.remove_task(self.tasks.pop(job))
        self.shares.pop(job, None)
        self.ended += self.passes.get(job, 0)
        self.done += cells
        self._advance()
        if error is not None:
            self.progress.console.print(f"failed: {self.labels.get(job, job)}: {error}", style="red", markup=False)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _advance(self) -> None:
        """Move the bar over all jobs: passes of those that ended, and the share of those under way."""
        under_way = sum(share * self.passes.get(job, 0) for job, share in self.shares.items())
        self.progress.update(self.overall, completed=self.ended + under_way, count=f"{self.done}/{self.cells}")


class _Label(ProgressColumn):
    """The name of a job, shortened in the middle where the terminal is narrow."""

    max_refresh = 0.5

    def render(self, task: Task) -> _Shortened:
        return _Shortened(task.description)


class _Shortened:
    """A line of text that loses its middle where it does not fit."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(len(self.text), 8), len(self.text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(shortened(self.text, options.max_width), no_wrap=True)


def shortened(text: str, width: int) -> str:
    """Return a text of at most so many characters, without its middle if need be."""
    if len(text) <= width:
        return text
    kept = max(0, width - 1)
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


class _Count(ProgressColumn):
    """How many cells, or steps of a job, are done."""

    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"{int(task.completed)}/{int(task.total)}"
        return Text(task.fields.get("count", total))


class _Remaining(ProgressColumn):
    """The time that is left at the pace so far; that of all jobs follows from their passes."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        if not task.total or not task.completed or not task.elapsed:
            return Text("--:--")
        left = int(task.elapsed * (task.total - task.completed) / task.completed)
        hours, rest = divmod(left, 3600)
        return Text(f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}")


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

    def start(self, jobs: Mapping[str, str], cells: int, cached: int, passes: Mapping[str, int]) -> None:
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


class Quiet(Lines):
    """Nothing but failures, and what is worth a line.

    Args:
        console: where to print.
    """

    def start(self, jobs: Mapping[str, str], cells: int, cached: int, passes: Mapping[str, int]) -> None:
        """Remember the names of the jobs."""
        self.labels = jobs

    def update(self, update: Update) -> None:
        """Say nothing."""

    def finish(self, job: str, cells: int, error: str | None) -> None:
        """Say that a job failed."""
        if error is not None:
            self._print(f"failed: {self.labels.get(job, job)}: {error}")
