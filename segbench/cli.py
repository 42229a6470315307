"""The command line: a verb a function, which parses, calls and prints. torch is imported by the verbs that need it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segbench import cli_check
from segbench.cli_eval import eval_
from segbench.cli_leaderboard import leaderboard_app
from segbench.cli_zoo import zoo_app
from segbench.errors import SegbenchError, Stopped

if TYPE_CHECKING:
    from reports.records import Record
    from segbench.matrix import Matrix

app = typer.Typer(
    name="segbench",
    help="Robustness benchmarks for semantic segmentation: train, attack, tabulate, compare.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(zoo_app, name="zoo")
app.add_typer(leaderboard_app, name="leaderboard")
app.command(epilog=cli_check.EXAMPLE)(cli_check.check)
app.command("eval", epilog="Example: segbench eval net.py:build -d camvid --data camvid=CamVid -a bim -a sea")(eval_)

MatrixArgument = Annotated[str, typer.Argument(help="Name of a built-in matrix, or a YAML file.")]
StoreOption = Annotated[
    Path | None, typer.Option(help="Folder of checkpoints, records and reports.", show_default="runs")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="Folder of a dataset, NAME=PATH; also SEGBENCH_DATA_<NAME>.", metavar="NAME=PATH"),
]
LimitOption = Annotated[int | None, typer.Option(help="Score only the first N images.", metavar="N", min=1)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a value of the matrix, key.path=value.", metavar="KEY=VALUE"),
]


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except SegbenchError as error:
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True)
        for line in str(error).splitlines():
            console.print("[bold red]error:[/] ", end="")
            console.print(line, markup=False, highlight=False)
        sys.exit(2)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"segbench {version('segbench')}")
        raise typer.Exit


@app.callback()
def _callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: segbench run camvid --data camvid=data/CamVid --workers 2 --set seeds=[0,1]")
def run(
    matrix: MatrixArgument = "quickstart",
    store: StoreOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default="auto")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine.", show_default="what fits the machine", min=1)
    ] = None,
    data: DataOption = None,
    limit: LimitOption = None,
    set_: SetOption = None,
) -> None:
    """Train, attack and tabulate a matrix; what is done already is not done again."""
    from segbench import execute, prepare, progress
    from segbench.store import Store

    console = _console()
    loaded = _load(matrix, store, device, workers, data, limit, set_)
    kept = Store(loaded.runtime.store)
    plan = prepare.checked_plan(loaded, kept.cache_dir)
    try:
        with progress.display(console) as shown:
            records = execute.run(plan, kept, loaded.runtime, shown)
    except Stopped:
        console.print(f"Stopped; everything done is kept. To go on: [bold]{_again()}[/]", highlight=False)
        raise typer.Exit(130) from None
    page = _report(kept, loaded.name)
    _print_results(records, console)
    console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
    failed = [record for record in records if record.status != "done"]
    if failed:
        console.print(f"{len(failed)} of {len(records)} evaluations failed; see the report", style="red")
        raise typer.Exit(1)


@app.command(epilog="Example: segbench plan voc2012-paper --estimate")
def plan(
    matrix: MatrixArgument = "quickstart",
    store: StoreOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    set_: SetOption = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Time a few steps and estimate the whole.")] = False,
) -> None:
    """Show what a run would do: cells, passes, what is cached and what sharing saves; run nothing."""
    from segbench import cost, prepare
    from segbench.store import Store

    loaded = _load(matrix, store, None, None, data, limit, set_)
    planned = prepare.tentative_plan(loaded)
    _console().print(cost.summary(planned, Store(loaded.runtime.store), estimate=estimate))


@app.command(epilog="Example: segbench report quickstart --store runs --out report")
def report(
    what: Annotated[
        str | None,
        typer.Argument(help="Name of a matrix that was run, or a store's folder.", show_default="the whole store"),
    ] = None,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the files.", show_default="STORE/reports/MATRIX")] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="html, md, csv, cells, tex, parquet or figures; may be repeated.",
            show_default="html md csv",
        ),
    ] = None,
    published: Annotated[
        str | None, typer.Option(help="Show a paper's values beside one's own: xu2021 or croce2024.", metavar="PAPER")
    ] = None,
    provenance: Annotated[bool, typer.Option("--provenance", help="Add dates, durations and machines.")] = False,
) -> None:
    """Regenerate the tables of a matrix, or of all in a store, from records alone."""
    from segbench.store import Store

    kept = Store(store or Path("runs"))
    if what is not None and (Path(what) / "matrices").is_dir():
        kept, what = Store(Path(what)), None
    names = kept.manifests() if what is None else [Path(what).stem]
    if not names:
        raise SegbenchError(f"{kept.root}: no matrix was run in this store")
    if kept.manifest(names[0]) is None:
        known = ", ".join(kept.manifests()) or "none yet"
        raise SegbenchError(f"{what}: no such matrix in store {kept.root}, which holds: {known}")
    for name in names:
        target = out if out is None or len(names) == 1 else out / name
        page = _report(
            kept, name, target, formats=format_ or ("html", "md", "csv"), provenance=provenance, published=published
        )
        typer.echo(f"report: {page}")


@app.command(epilog="Example: segbench compare runs-before runs-after --out changes.md")
def compare(
    store_a: Annotated[Path, typer.Argument(help="A store's folder.")],
    store_b: Annotated[Path, typer.Argument(help="Another store's folder.")],
    out: Annotated[Path | None, typer.Option(help="Write the Markdown to this file.", show_default="print it")] = None,
) -> None:
    """Compare two stores: differences of what both evaluated, and what changed in recipes, weights and software."""
    from reports import compare as comparison
    from segbench.store import Store, write_bytes

    a, b = Store(store_a), Store(store_b)
    for kept in (a, b):
        if not kept.manifests():
            raise SegbenchError(f"{kept.root}: no matrix was run in this store")
    found = comparison.compare(a.records(), b.records(), a.counts, b.counts)
    text = comparison.to_markdown(found, str(store_a), str(store_b))
    if out is None:
        typer.echo(text)
    else:
        write_bytes(out, text.encode())
        typer.echo(f"comparison: {out}")


@app.command("list", epilog="Example: segbench list attacks")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="attacks, defenses, models, datasets, protocols or matrices; all by default.")
    ] = None,
) -> None:
    """List what there is: attacks, defenses, models, datasets, protocols and matrices."""
    from rich.table import Table

    from segbench import catalog, config

    kinds = {f"{one}s": one for one in catalog.PACKAGES}
    known = [*kinds, "matrices"]
    if kind is not None and kind not in known:
        raise SegbenchError(catalog.unknown("list of", kind, dict.fromkeys(known)))
    console = _console()
    for name in [kind] if kind else known:
        table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2))
        if name == "matrices":
            for matrix, title in config.builtin_matrices().items():
                table.add_row(matrix, title)
        else:
            for component in catalog.components(kinds[name]).values():
                table.add_row(component.name, component.summary)
        console.print(table)


@app.command(epilog="Example: segbench show bim")
def show(name: Annotated[str, typer.Argument(help="Name of a component or of a built-in matrix.")]) -> None:
    """Show a component's description, options with defaults, and source; or a matrix file."""
    import inspect
    from importlib.resources import files

    from rich.markup import escape
    from rich.syntax import Syntax
    from rich.table import Table

    from segbench import catalog, config, docstrings, specs

    console = _console()
    found = [catalog.components(kind)[name] for kind in catalog.PACKAGES if name in catalog.components(kind)]
    if name in config.builtin_matrices():
        console.print(Syntax((files("segbench") / "matrices" / f"{name}.yaml").read_text(), "yaml"))
    elif not found:
        names = {n: None for kind in catalog.PACKAGES for n in catalog.components(kind)}
        raise SegbenchError(catalog.unknown("component", name, {**names, **config.builtin_matrices()}))
    for component in found:
        console.print(f"[bold]{component.kind} {component.name}[/] (version {component.version}, {component.module})")
        parts = docstrings.split(component.doc)
        console.print(parts.prose, markup=False, highlight=False)
        table = Table("option", "default", "meaning", title_justify="left")
        for option, parameter in component.options.items():
            required = parameter.default is inspect.Parameter.empty
            default = "required" if required else specs.text(parameter.default)
            table.add_row(*map(escape, (option, default, parts.arguments.get(option, ""))))
        if component.options:
            console.print(table)
        for heading, text in (("Source", parts.source), ("Departs from it in", parts.departs)):
            if text:
                console.print(f"{heading}: {text}", markup=False, highlight=False)


@data_app.command("check", epilog="Example: segbench data check camvid --data camvid=data/CamVid --sheet sheet.png")
def data_check(
    dataset: Annotated[str, typer.Argument(help='Dataset, with options if need be: "camvid(size=[90, 120])".')],
    data: DataOption = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a PNG of images with their masks.")] = None,
) -> None:
    """Read every image and mask of a dataset and say what is wrong with them."""
    from segbench import prepare, specs
    from segbench.datasets import check

    opened = prepare.open_bound(specs.bound("dataset", dataset), _folders(data, (dataset.partition("(")[0],)))
    _console().print(check.describe(check.check(opened)), markup=False, highlight=False)
    if sheet is not None:
        check.contact_sheet(opened, sheet)
        typer.echo(f"contact sheet: {sheet}")


def _load(
    matrix: str,
    store: Path | None,
    device: str | None,
    workers: int | None,
    data: list[str] | None,
    limit: int | None,
    overrides: list[str] | None,
) -> Matrix:
    """Load a matrix and lay the command line's options over it."""
    from segbench import config

    overrides = list(overrides or [])
    given = {"runtime.store": store, "runtime.device": device, "runtime.workers": workers, "limit": limit}
    overrides += [f"{key}={value}" for key, value in given.items() if value is not None]
    loaded = config.load(matrix, overrides)
    folders = {**loaded.runtime.data, **_folders(data, [d.component.name for d in loaded.datasets])}
    return loaded.model_copy(update={"runtime": loaded.runtime.model_copy(update={"data": folders})})


def _folders(data: list[str] | None, names: Any) -> dict[str, Path]:
    """Read --data options, and the environment for datasets that have none."""
    import os

    from segbench.config import data_variable

    folders = {name: Path(os.environ[data_variable(name)]) for name in names if data_variable(name) in os.environ}
    for item in data or []:
        name, equals, path = item.partition("=")
        if not equals or not path:
            raise SegbenchError(f"--data {item}: expected NAME=PATH, for instance camvid=data/CamVid")
        folders[name] = Path(path)
    return folders


def _report(
    store: Any,
    name: str,
    out: Path | None = None,
    *,
    formats: Any = ("html", "md", "csv"),
    provenance: bool = False,
    published: str | None = None,
) -> Path:
    """Render what a store holds of a matrix and return the page."""
    from reports.evidence import Evidence
    from reports.render import render
    from segbench import aggregate, judged, sanity

    manifest = aggregate.with_worst_cases(store.manifest(name), store)
    measured = judged.measurements(manifest.records, store)
    try:
        paths = render(
            manifest.model_copy(update={"records": judged.flagged(manifest.records, measured)}),
            out or store.report_dir(name),
            formats,
            provenance=provenance,
            published=published,
            evidence=Evidence(
                counts=store.counts,
                history=store.history,
                kept=store.kept_images,
                measured=measured.get,
                flags=sanity.SENTENCES,
            ),
            figures=True,
            sortable=find_spec("itables") is not None,
        )
    except ValueError as error:
        raise SegbenchError(str(error)) from error
    return next((path for path in paths if path.suffix == ".html"), paths[0])


def _print_results(records: list[Record], console: Any) -> None:
    from segbench.results import results_tables

    for table in results_tables(records, console):
        console.print(table)


def _again() -> str:
    import shlex

    return shlex.join(["segbench", *sys.argv[1:]])


def _console() -> Any:
    from rich.console import Console

    return Console()
