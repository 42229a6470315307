"""`segbench check`: a regression gate for CI."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from segbench.cli import output
from segbench.cli.common import MatrixArgument, interruptible, load
from segbench.cli.output import JsonOption, verb
from segbench.errors import SegbenchError

if TYPE_CHECKING:
    from segbench.config.matrix import Matrix
    from segbench.plan.plan import Plan
    from segbench.regression import told
    from segbench.regression.baseline import Baseline
    from segbench.regression.gate import VerdictRow
    from segbench.reports.records import Record

EXAMPLE = "Example: segbench check ci.yaml --baseline robustness.json --allow person.iou=2 --require 'miou[bim]>=40'"
MISTAKE = 2


@verb(plugins=True)
def check(
    matrix: MatrixArgument = "ci",
    baseline: Annotated[Path | None, typer.Option(help="The committed baseline (JSON).", metavar="FILE")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline anew, after showing what changed.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="How much worse a metric may become, such as miou=1.5, person.iou=2, ece=0.01 or aacc=noise. Kept by "
            "--update.",
            metavar="METRIC=AMOUNT",
        ),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="A value that must be reached, such as 'miou[bim(steps=6)]>=40' or 'ece<=0.1'.",
            metavar="METRIC[ATTACK]>=VALUE",
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            help="YAML with allow and require.", metavar="FILE", show_default="NAME.gate.yaml beside NAME.yaml"
        ),
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write Markdown for a pull request.", metavar="FILE")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.", metavar="FILE")] = None,
    result: Annotated[Path | None, typer.Option(help="Write what --json prints.", metavar="FILE")] = None,
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
    json: JsonOption = False,
) -> None:
    """Measure a small matrix and fail if it got worse: exit code 1, or 2 for anything that is no result."""
    written = _Written(summary, junit, result, json)

    def done() -> int:
        with tempfile.TemporaryDirectory() as scratch:
            loaded = _in_one_process(load(matrix, store or Path(scratch), device, workers, data, limit, set_))
            return _checked(loaded, matrix, baseline, gate, update, allow or [], require or [], written)

    raise typer.Exit(_bounded(done, written, matrix))


class _Written(NamedTuple):
    """What a check writes beside its sentences, each if it is asked for: files, and an object on stdout."""

    summary: Path | None
    junit: Path | None
    result: Path | None
    printed: bool


def _bounded(done: Callable[[], int], written: _Written, matrix: str) -> int:
    """Return the exit code of a check: 0, 1 or 2 whatever happens; whatever is no result is told and is 2."""
    from segbench.cli.endings import say, sentences

    try:
        return done()
    except (typer.Exit, KeyboardInterrupt, SystemExit):
        why = "stopped before it had a result"
    except Exception as error:  # also a mistake of segbench's, whose traceback `sentences` keeps
        why = sentences(error)[0]
    for line in why.splitlines():
        say(line)
    _write_mistake(written, matrix, why)
    return MISTAKE


def _checked(
    loaded: Matrix,
    matrix: str,
    baseline: Path | None,
    gate_file: Path | None,
    update: bool,
    allow: Sequence[str],
    require: Sequence[str],
    written: _Written,
) -> int:
    from segbench.api import run_plan
    from segbench.execution import prepare
    from segbench.regression import baseline as baselines
    from segbench.regression import gate, rules
    from segbench.reports.flags import flag_sentences
    from segbench.store import Store

    then = baselines.read(baseline) if baseline is not None else None
    if baseline is not None and then is None and not update:
        raise SegbenchError(f"{baseline}: there is no such baseline; make it with --update and commit it")
    if update and baseline is None:
        raise SegbenchError("--update writes a baseline; say where with --baseline FILE")
    asked = rules.rules_of(then.allowed if then else None, gate_file or rules.beside(matrix), allow, require)
    if baseline is None and not asked.required:
        raise SegbenchError("nothing is asked for: give --baseline FILE, or --require with a value to reach")
    kept = Store(loaded.runtime.store)
    plan = prepare.checked_plan(loaded, kept, output.note)
    expected = {cell.digest: cell.expected() for cell in plan.evaluations}
    rules.check_names(asked, list(expected.values()), _classes(plan, loaded))
    problems = baselines.unlike(then, list(expected.values())) if then else []
    if problems and not update:
        raise SegbenchError("\n".join([*problems, f"{baseline}: not comparable; if this is meant, use --update"]))
    console = output.console(stderr=True)
    with interruptible(console), output.display(console) as shown:
        result = run_plan(plan, shown)
    # A worst case is no row of a baseline: its members are.
    records = [record for record in result.records if record.digest in expected]
    also = [own.metric for own in asked.required]
    now = baselines.measured(loaded.name, records, kept.counts, asked.allowed, kept.tallies, also)
    rows = gate.compare(then if not problems else None, now, records, *asked, update=update)
    notes = [
        *problems,
        *(f"flagged {line}" for line in flag_sentences(records)),
        *(gate.changed_versions(then.versions, now.versions) if then else []),
        *(gate.one_training(rows, then, now, asked.allowed) if then else []),
    ]
    code = 0 if update else gate.settled(rows)
    _show(loaded.name, rows, notes, stderr=written.printed)
    _write(loaded.name, rows, notes, written, code)
    if update and baseline is not None:
        _update(baseline, baselines.measured(loaded.name, records, kept.counts, asked.allowed, kept.tallies), records)
    return code


def _in_one_process(loaded: Matrix) -> Matrix:
    """Return a matrix that starts no workers unless it asks for them or trains: each takes seconds to start."""
    if loaded.runtime.workers is not None or loaded.models:
        return loaded
    return loaded.model_copy(update={"runtime": loaded.runtime.model_copy(update={"workers": 1})})


def _classes(plan: Plan, loaded: Matrix) -> Mapping[str, Sequence[str]]:
    """Return the names of the classes of every dataset of a plan, by its short string."""
    data = {cell.target.data.dataset.short: cell.target.data for cell in plan.evaluations}
    return {short: tuple(own.open(loaded.runtime.data.get(own.dataset.name)).classes) for short, own in data.items()}


def _show(name: str, rows: Sequence[VerdictRow], notes: Sequence[str], *, stderr: bool = False) -> None:
    """Print the outcome of every row in a sentence; nothing is cut, however narrow the log is."""
    from segbench.regression import told
    from segbench.reports.visible import one_line

    console = output.console(stderr=stderr)
    colours = {"REGRESSION": "red", "NOT MET": "red", "FAILED": "red", "improvement": "green"}
    printed = [(line, colours.get(verdict or "")) for line, verdict in told.lines(rows)]
    printed += [(one_line(note), None) for note in notes]
    if rows:
        printed.append((one_line(told.headline(name, rows)), None))
    for line, colour in printed:
        console.print(line, style=colour, markup=False, highlight=False, soft_wrap=True)


def _write(name: str, rows: Sequence[VerdictRow], notes: Sequence[str], written: _Written, code: int) -> None:
    from segbench.files import write_bytes
    from segbench.regression import told

    for path, mode in ((written.summary, "w"), (os.environ.get("GITHUB_STEP_SUMMARY"), "a")):
        if path:
            with Path(path).open(mode, encoding="utf-8") as file:
                file.write(told.markdown(name, rows, notes))
    if written.junit:
        write_bytes(written.junit, told.junit(name, rows))
    _write_json(written, told.result_of(name, rows, notes, code))


def _write_json(written: _Written, found: told.CheckResult) -> None:
    from segbench.files import write_json

    content = found.model_dump(mode="json")
    if written.printed:
        output.print_json(content.pop("kind"), content)
        content = found.model_dump(mode="json")
    if written.result is not None:
        write_json(written.result, content)


def _write_mistake(written: _Written, matrix: str, why: str) -> None:
    """Write that there is no result into the files that a dashboard reads, so that none of an earlier check remains."""
    from segbench.cli.endings import say
    from segbench.files import write_bytes
    from segbench.regression import told

    try:
        _write_json(written, told.without_result(matrix, why))
        if written.junit:
            write_bytes(written.junit, told.junit_without_result(matrix, why))
    except SegbenchError as error:
        say(str(error))


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
    output.note(f"baseline: {path} ({path.stat().st_size:,} bytes)")
