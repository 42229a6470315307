"""What the verbs share: options, a matrix with them laid over it, and how results are shown."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segbench.errors import SegbenchError, Stopped
from segbench.reports.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

    from segbench.api import Result
    from segbench.config.matrix import Matrix

MOST_REASONS = 5
"""Reasons for failures that are printed; the report has them all."""

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


def load(
    matrix: str,
    store: Path | None,
    device: str | None,
    workers: int | None,
    data: list[str] | None,
    limit: int | None,
    overrides: list[str] | None,
) -> Matrix:
    """Load a matrix and lay the command line's options over it."""
    from segbench.config.load import load_matrix

    options = {"--store": store, "--device": device, "--workers": workers, "--limit": limit}
    loaded = load_matrix(matrix, overrides or (), options)
    places = {**loaded.runtime.data, **folders(data, [d.component.name for d in loaded.datasets])}
    return loaded.model_copy(update={"runtime": loaded.runtime.model_copy(update={"data": places})})


def folders(data: list[str] | None, names: Iterable[str]) -> dict[str, Path]:
    """Read --data options, and the environment for datasets that have none."""
    from segbench.components import catalog
    from segbench.config.folders import environment_folders

    chosen: dict[str, Path] = {}
    for item in data or []:
        name, equals, path = item.partition("=")
        if not equals or not path:
            raise SegbenchError(f"--data {item}: expected NAME=PATH, for instance camvid=data/CamVid")
        if name not in catalog.components("dataset"):
            raise SegbenchError(f"--data {item}: {catalog.unknown('dataset', name, catalog.components('dataset'))}")
        if name in chosen:
            raise SegbenchError(f"--data {item}: {name} has a folder already, {chosen[name]}; keep one")
        chosen[name] = Path(path)
    return {**environment_folders(list(names)), **chosen}


@contextmanager
def interruptible(console: Console) -> Iterator[None]:
    """Say how to go on when the user stops a run, and exit with code 130."""
    try:
        yield
    except Stopped:
        again = shlex.join(["segbench", *sys.argv[1:]])
        console.print(f"Stopped; everything done is kept. To go on: [bold]{again}[/]", highlight=False)
        raise typer.Exit(130) from None


def show_result(result: Result, console: Console, as_json: str | None = None) -> None:
    """Write a result's report, print its tables, and exit with code 1 where an evaluation failed.

    Args:
        result: the result.
        console: where the tables go.
        as_json: kind of the object that is printed instead of them.
    """
    from segbench.cli.output import print_json
    from segbench.cli.results import FLAG, as_plain, results_tables
    from segbench.reports.flags import flag_sentences

    page = result.report()[0]
    if as_json is not None:
        print_json(as_json, {**as_plain(result), "report": str(page)})
        if any(record.status != "done" for record in result.records):
            raise typer.Exit(1)
        return
    for table in results_tables(result.records, console):
        console.print(table)
    for sentence in flag_sentences(result.records):
        console.print(visible(f"{FLAG} {sentence}"), soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
    failed = [record for record in result.records if record.status != "done"]
    if failed:
        reasons = dict.fromkeys(f"{r.attack.short} on {r.target.model.short}: {r.error}" for r in failed)
        for reason in list(reasons)[:MOST_REASONS]:
            console.print(visible(reason), style="red", markup=False, soft_wrap=True)
        console.print(f"{len(failed)} of {len(result.records)} evaluations failed; see the report", style="red")
        raise typer.Exit(1)
