"""`segbench status`: how far a store is, from any machine that sees it."""

from __future__ import annotations

import time
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
        bool, typer.Option("--watch", help="Look again every two seconds, until nothing is left.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what of a store is done, what runs where, what failed and why, and what is left."""
    from segbench.store import Store
    from segbench.store import status as look

    opened = Store(store)
    found = look.status(opened)
    if json:
        output.print_json("status", found.plain())
        return
    terminal = output.console()
    if not watch or not terminal.is_terminal:
        terminal.print(shown(found))
        return
    from rich.live import Live

    with Live(shown(found), console=terminal, auto_refresh=False) as live:
        while any(matrix.left or matrix.running for matrix in found.matrices):
            time.sleep(EVERY)
            found = look.status(opened)
            live.update(shown(found), refresh=True)


def shown(found: Status) -> RenderableType:
    """Return a table of matrices, and below it what runs, waits and failed."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("matrix", "cells", "done", "running", "failed", "left"):
        table.add_column(head, justify="left" if head == "matrix" else "right", overflow="fold")
    for matrix in found.matrices:
        numbers = (matrix.total, matrix.done, matrix.running, matrix.failed, matrix.left)
        table.add_row(Text(visible(matrix.name)), *map(str, numbers))
    parts: list[RenderableType] = [table if found.matrices else Text(f"{found.store}: no matrix was run here yet")]
    now = time.time()
    groups = [
        ("running", [_line(job, now) for job in found.running], "green"),
        ("lost; the next run takes them up", [_line(job, now) for job in found.lost], "yellow"),
        ("in SLURM's queue", [f"{label} ({task})" for task, label in found.waiting], "yellow"),
        ("failed", [f"{failure.label}: {failure.reason}" for failure in found.failures], "red"),
    ]
    for head, lines, colour in groups:
        if lines:
            parts += [Text(f"\n{head}", style=f"bold {colour}"), *(Text(f"  {visible(line)}") for line in lines[:MOST])]
            if len(lines) > MOST:
                parts.append(Text(f"  and {len(lines) - MOST} more", style="dim"))
    return Group(*parts)


def _line(job: Running, now: float) -> str:
    left = job.left()
    how_far = f", {job.done}/{job.total}" if job.total else ""
    eta = f", {_span(left)} left" if left is not None else ""
    note = f", {job.note}" if job.note else ""
    silent = f", last heard of {_span(now - job.heard)} ago" if job.lost(now) else ""
    since = time.strftime("%H:%M:%S", time.localtime(job.started))
    return f"{job.label}: on {job.host} ({job.engine}) since {since}{how_far}{eta}{note}{silent}"


def _span(seconds: float) -> str:
    hours, rest = divmod(int(max(0.0, seconds)), 3600)
    return (
        f"{hours} h {rest // 60:02} min"
        if hours
        else f"{rest // 60} min {rest % 60:02} s"
        if rest >= 60
        else f"{rest} s"
    )
