"""`segbench check`: a regression gate for CI."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segbench.errors import SegbenchError, Stopped

if TYPE_CHECKING:
    from reports.records import Record
    from segbench.baseline import Baseline
    from segbench.check import Row
    from segbench.matrix import Matrix
    from segbench.plan import Plan
    from segbench.store import Store

EXAMPLE = "Example: segbench check ci.yaml --baseline robustness.json --summary summary.md"


def check(
    baseline: Annotated[Path, typer.Option(help="The committed baseline (JSON).", metavar="FILE")],
    matrix: Annotated[str, typer.Argument(help="Name of a built-in matrix, or a YAML file.")] = "ci",
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline anew, after showing what changed.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Allowed drop of miou, macc or aacc: points, or noise. Kept by --update.", metavar="METRIC=POINTS"
        ),
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write Markdown for a pull request.", metavar="FILE")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.", metavar="FILE")] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Keep results here and use those that are there.", show_default="nothing is kept"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default="auto")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine.", min=1)] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="Folder of a dataset, NAME=PATH.", metavar="NAME=PATH")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Score only the first N images.", metavar="N", min=1)] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value of the matrix.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Measure a small matrix and fail if it got worse than its baseline: exit code 1, or 2 for a mistake."""
    from segbench import baseline as baselines
    from segbench import check as checks
    from segbench import cli, prepare
    from segbench.store import Store

    then = baselines.read(baseline)
    if then is None and not update:
        raise SegbenchError(f"{baseline}: there is no such baseline; make it with --update and commit it")
    allowed = checks.parse_allowed(allow or [], then.allowed if then else {"miou": "noise"})
    with tempfile.TemporaryDirectory() as scratch:
        kept = Store(store or Path(scratch))
        loaded = cli._load(matrix, kept.root, device, workers, data, limit, set_)
        plan = prepare.checked_plan(loaded, kept.cache_dir)
        expected = [cell.expected() for cell in plan.evaluations]
        problems = baselines.unlike(then, expected) if then else []
        if problems and not update:
            raise SegbenchError("\n".join([*problems, f"{baseline}: not comparable; if this is meant, use --update"]))
        records = _measure(plan, kept, loaded)
        now = baselines.measured(loaded.name, records, kept.counts, allowed)
    rows = checks.compare(then, now, records, allowed) if then and not problems else []
    notes = checks.changed_versions(then.versions, now.versions) if then else []
    _show(loaded.name, rows, [*problems, *notes])
    for path, mode in ((summary, "w"), (os.environ.get("GITHUB_STEP_SUMMARY"), "a")):
        if path:
            with Path(path).open(mode, encoding="utf-8") as file:
                file.write(checks.markdown(loaded.name, rows, [*problems, *notes]))
    if junit:
        junit.write_bytes(checks.junit(loaded.name, rows))
    if update:
        _update(baseline, now, records)
    elif any(row.verdict in checks.BAD for row in rows):
        raise typer.Exit(1)


def _measure(plan: Plan, store: Store, matrix: Matrix) -> list[Record]:
    from rich.console import Console

    from segbench import execute, progress

    try:
        with progress.display(Console(stderr=True)) as shown:
            return execute.run(plan, store, matrix.runtime, shown)
    except Stopped:
        raise typer.Exit(130) from None


def _show(name: str, rows: Sequence[Row], notes: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from segbench import check as checks

    console = Console()
    table = Table()
    for heading in checks.HEADINGS:
        table.add_column(heading, justify="left" if heading in ("what", "metric", "verdict") else "right")
    colours = {"REGRESSION": "red", "FAILED": "red", "improvement": "green"}
    for row in rows:
        table.add_row(*checks.cells(row), style=colours.get(row.verdict))
    if rows:
        console.print(table)
    for note in (*(f"{row.label}: {row.note}" for row in rows if row.note), *notes):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if rows:
        console.print(checks.headline(name, rows), markup=False, highlight=False, soft_wrap=True)


def _update(path: Path, now: Baseline, records: Sequence[Record]) -> None:
    from segbench import baseline as baselines

    failed = [record for record in records if record.status != "done"]
    if failed:
        first = failed[0]
        raise SegbenchError(
            f"{path}: not written, because {len(failed)} of {len(records)} evaluations failed, "
            f"{first.attack.short} on {first.target.model.short} first: {first.error}"
        )
    baselines.write(now, path)
    typer.echo(f"baseline: {path} ({path.stat().st_size:,} bytes)")
