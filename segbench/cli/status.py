"""`segbench status`: how far a store is, from any machine that sees it."""

from __future__ import annotations

import textwrap
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segbench.cli import output
from segbench.cli.output import JsonOption, verb
from segbench.reports.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segbench.store.running import Running
    from segbench.store.status import Status

EVERY = 2.0
"""Seconds between two looks with --watch."""
MOST = 20
"""Jobs and failures of each kind that are shown; --json has them all."""


@verb()
def status(
    store: Annotated[Path, typer.Argument(help="Folder of checkpoints, records and reports.")] = Path("runs"),
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds, until nothing is left; --json prints then.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what of a store is done, what runs where, what failed and why, and what is left.

    The exit code is 1 where something in it is damaged.
    """
    from segbench.store import Store
    from segbench.store import status as look

    opened = Store(store)

    def looks() -> Iterator[Status]:
        while True:
            yield (found := look.status(opened))
            if not watch or not any(matrix.left or matrix.running for matrix in found.matrices):
                return
            time.sleep(EVERY)

    terminal = output.console()
    if json:
        found = deque(looks(), maxlen=1).pop()
        output.print_json("status", found.plain())
    elif watch and terminal.is_terminal:
        from rich.live import Live

        with Live(console=terminal, auto_refresh=False) as live:
            for found in looks():
                live.update(shown(found, terminal.width), refresh=True)
    else:
        before = None
        for found in looks():
            if (now := (found.matrices, found.damaged)) != before:  # a file gets a table for each change
                terminal.print(shown(found, terminal.width if terminal.is_terminal else None), soft_wrap=True)
            before = now
    if found.damaged:
        raise typer.Exit(1)


def shown(found: Status, width: int | None) -> RenderableType:
    """Return a table of matrices, and below it what runs, waits and failed.

    Args:
        found: how far the store is.
        width: of the terminal, in characters; None leaves lines whole, as a file and grep want them.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("matrix", "cells", "done", "running", "failed", "left"):
        table.add_column(head, justify="left" if head == "matrix" else "right", overflow="fold")
    for matrix in found.matrices:
        numbers = (matrix.total, matrix.done, matrix.running, matrix.failed, matrix.left)
        table.add_row(Text(visible(matrix.name)), *map(str, numbers))
    empty = not (found.matrices or found.damaged)
    parts: list[RenderableType] = [Text(f"{found.store}: no matrix was run here yet") if empty else table]
    now = found.now
    groups = [
        ("damaged", list(found.damaged), "red"),
        ("running", [_line(job, now) for job in found.running], "green"),
        ("lost; the next run takes them up", [_line(job, now) for job in found.lost], "yellow"),
        ("submitted to SLURM, not begun", [f"{label} ({task})" for task, label in found.waiting], "yellow"),
        ("failed", [f"{failure.label}: {failure.reason}" for failure in found.failures], "red"),
    ]
    for head, lines, colour in groups:
        if lines:
            parts.append(Text(f"\n{head}", style=f"bold {colour}"))
            parts += [Text(_indented(visible(line), width)) for line in lines[:MOST]]
            if len(lines) > MOST:
                parts.append(Text(f"  and {len(lines) - MOST} more", style="dim"))
    return Group(*parts)


def _line(job: Running, now: float) -> str:
    left = job.left()
    how_far = f", {job.done}/{job.total}" if job.total else ""
    eta = f", {_span(left)} left" if left is not None else ""
    note = f", {job.note}" if job.note else ""
    silent = f", last heard of {_span(now - job.heard)} ago" if job.lost(now) else ""
    started, today = time.localtime(job.started), time.localtime(now)
    since = time.strftime("%H:%M:%S" if started[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", started)
    return f"{job.label}: on {job.host} ({job.engine}) since {since}{how_far}{eta}{note}{silent}"


def _indented(line: str, width: int | None) -> str:
    """Indent a line, and what does not fit the width further."""
    if width is None:
        return f"  {line}"
    return textwrap.fill(line, max(width, 20), initial_indent="  ", subsequent_indent="      ")


def _span(seconds: float) -> str:
    hours, rest = divmod(int(max(0.0, seconds)), 3600)
    return (
        f"{hours} h {rest // 60:02} min"
        if hours
        else f"{rest // 60} min {rest % 60:02} s"
        if rest >= 60
        else f"{rest} s"
    )
