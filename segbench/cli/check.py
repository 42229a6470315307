"""`segbench check`: a regression gate for CI."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segbench.cli import output
from segbench.cli.common import interruptible, load
from segbench.cli.output import verb
from segbench.errors import SegbenchError

if TYPE_CHECKING:
    from segbench.regression.baseline import Baseline
    from segbench.regression.gate import VerdictRow
    from segbench.reports.records import Record

EXAMPLE = "Example: segbench check ci.yaml --baseline robustness.json --summary summary.md"


@verb(plugins=True)
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
    from segbench.api import run_plan
    from segbench.execution import prepare
    from segbench.regression import baseline as baselines
    from segbench.regression import gate
    from segbench.reports.flags import flag_sentences
    from segbench.store import Store

    then = baselines.read(baseline)
    if then is None and not update:
        raise SegbenchError(f"{baseline}: there is no such baseline; make it with --update and commit it")
    allowed = gate.parse_allowed(allow or [], then.allowed if then else {"miou": "noise"})
    with tempfile.TemporaryDirectory() as scratch:
        kept = Store(store or Path(scratch))
        loaded = load(matrix, kept.root, device, workers, data, limit, set_)
        plan = prepare.checked_plan(loaded, kept, lambda text: typer.echo(text, err=True))
        expected = {cell.digest: cell.expected() for cell in plan.evaluations}
        problems = baselines.unlike(then, list(expected.values())) if then else []
        if problems and not update:
            raise SegbenchError("\n".join([*problems, f"{baseline}: not comparable; if this is meant, use --update"]))
        console = output.console(stderr=True)
        with interruptible(console), output.display(console) as shown:
            result = run_plan(plan, shown)
        # A worst case is no row of a baseline: its members are.
        records = [record for record in result.records if record.digest in expected]
        now = baselines.measured(loaded.name, records, kept.counts, allowed)
    rows = gate.compare(then, now, records, allowed) if then and not problems else []
    notes = [
        *(f"flagged {line}" for line in flag_sentences(records)),
        *(gate.changed_versions(then.versions, now.versions) if then else []),
    ]
    _show(loaded.name, rows, [*problems, *notes])
    for path, mode in ((summary, "w"), (os.environ.get("GITHUB_STEP_SUMMARY"), "a")):
        if path:
            with Path(path).open(mode, encoding="utf-8") as file:
                file.write(gate.markdown(loaded.name, rows, [*problems, *notes]))
    if junit:
        junit.write_bytes(gate.junit(loaded.name, rows))
    if update:
        _update(baseline, now, records)
    elif any(row.verdict in gate.BAD for row in rows):
        raise typer.Exit(1)


def _show(name: str, rows: Sequence[VerdictRow], notes: Sequence[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    from segbench.regression import gate
    from segbench.reports.visible import one_line

    console = output.console()
    table = Table()
    for heading in gate.HEADINGS:
        table.add_column(heading, justify="left" if heading in ("what", "metric", "verdict") else "right")
    colours = {"REGRESSION": "red", "FAILED": "red", "improvement": "green"}
    for row in rows:
        table.add_row(*(Text(one_line(text)) for text in gate.cells(row)), style=colours.get(row.verdict))
    if rows:
        console.print(table)
    for note in (*(f"{row.label}: {row.note}" for row in rows if row.note), *notes):
        console.print(one_line(note), markup=False, highlight=False, soft_wrap=True)
    if rows:
        console.print(one_line(gate.headline(name, rows)), markup=False, highlight=False, soft_wrap=True)


def _update(path: Path, now: Baseline, records: Sequence[Record]) -> None:
    from segbench.regression import baseline as baselines

    failed = [record for record in records if record.status != "done"]
    if failed:
        first = failed[0]
        raise SegbenchError(
            f"{path}: not written, because {len(failed)} of {len(records)} evaluations failed, "
            f"{first.attack.short} on {first.target.model.short} first: {first.error}"
        )
    baselines.write(now, path)
    typer.echo(f"baseline: {path} ({path.stat().st_size:,} bytes)")
