"""What the verbs share: options, a matrix with them laid over it, and how results are shown."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segbench.cli.known import complete_matrix
from segbench.errors import SegbenchError, Stopped, unknown
from segbench.reports.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

    from segbench.api import Result
    from segbench.config.matrix import Matrix

MOST_REASONS = 5
"""Reasons for failures that are printed; the report has them all."""

MatrixArgument = Annotated[
    str, typer.Argument(help="Name of a built-in matrix, or a YAML file.", autocompletion=complete_matrix)
]
StoreOption = Annotated[
    Path | None, typer.Option(help="Folder of checkpoints, records and reports.", show_default="runs")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="Folder of a dataset, NAME=PATH; also SEGBENCH_DATA_<NAME>.", metavar="NAME=PATH"),
]
LimitOption = Annotated[int | None, typer.Option(help="Score only the first N images.", metavar="N", min=1)]
MetricsOption = Annotated[
    list[str] | None,
    typer.Option("--metrics", help="Show a metric beside mIoU, such as ece or person.iou; repeatable.", metavar="NAME"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a value of the matrix, key.path=value.", metavar="KEY=VALUE"),
]
TrackOption = Annotated[
    list[str] | None,
    typer.Option("--track", help="Let a tracker hear: tensorboard, mlflow, wandb or trackio; repeatable."),
]
ProfileOption = Annotated[
    bool, typer.Option("--profile", help="Say how long each part took, and how much of that it waited for images.")
]
WeightsOption = Annotated[
    list[str] | None,
    typer.Option("--weights", help="Published weights of a network of the matrix.", metavar="NAME=FILE"),
]


def load(
    matrix: str,
    store: Path | None,
    device: str | None,
    workers: int | None,
    data: list[str] | None,
    limit: int | None,
    overrides: list[str] | None,
    weights: list[str] | None = None,
    metrics: list[str] | None = None,
    track: list[str] | None = None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Matrix:
    """Load a matrix and lay the command line's options over it; `more` holds those that only one verb has."""
    from segbench.config.given_weights import with_weights
    from segbench.config.load import load_matrix

    folders(data, ())  # a name of one's own is known before the matrix is read
    options = {
        "--store": store,
        "--device": device,
        "--workers": workers,
        "--limit": limit,
        "--metrics": metrics,
        "--track": track,
        **more,
    }
    loaded = with_weights(load_matrix(matrix, overrides or (), options), weights or ())
    places = {**loaded.runtime.data, **folders(data, [d.component.name for d in loaded.datasets])}
    return loaded.model_copy(update={"runtime": loaded.runtime.model_copy(update={"data": places})})


def folders(data: list[str] | None, names: Iterable[str]) -> dict[str, Path]:
    """Read --data options, and the environment for datasets that have none."""
    from segbench.components import catalog
    from segbench.config.folders import environment_folders
    from segbench.config.own import declare

    chosen: dict[str, Path] = {}
    from_environment = environment_folders(list(names))
    declare(from_environment)
    for item in data or []:
        name, equals, path = item.partition("=")
        if not equals or not path:
            raise SegbenchError(f"--data {item}: expected NAME=PATH, for instance camvid=data/CamVid")
        declare({name: Path(path)})
        if name not in catalog.components("dataset"):
            raise SegbenchError(f"--data {item}: {unknown('dataset', name, catalog.components('dataset'))}")
        if name in chosen:
            raise SegbenchError(f"--data {item}: {name} has a folder already, {chosen[name]}; keep one")
        chosen[name] = Path(path)
    return {**from_environment, **chosen}


@contextmanager
def interruptible(console: Console) -> Iterator[None]:
    """Say how to go on when the user stops a run, and exit with code 130."""
    try:
        yield
    except Stopped:
        again = shlex.join(["segbench", *sys.argv[1:]])
        told = f"Stopped; everything done is kept. To go on: {again}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
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
    from segbench.store import Store

    page = result.report()[0]
    if as_json is not None:
        print_json(as_json, {**as_plain(result), "report": str(page)})
        if any(record.status not in ("done", "not applicable") for record in result.records):
            raise typer.Exit(1)
        return
    evidence = Store(result.store).evidence(result.seen)
    manifest = result.manifest
    tables = results_tables(result.records, console, manifest.metrics, evidence, manifest.reference, manifest.labels)
    for table in tables:
        console.print(table)
    if not tables:
        console.print(f"{len(result.records)} evaluations: their tables are in the report")
    for sentence in flag_sentences(result.records, manifest.labels):
        console.print(visible(f"{FLAG} {sentence}"), soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
    impossible = [record for record in result.records if record.status == "not applicable"]
    for reason in dict.fromkeys(record.error for record in impossible):
        console.print(visible(f"n/a: {reason}"), markup=False, highlight=False, soft_wrap=True)
    failed = [record for record in result.records if record.status not in ("done", "not applicable")]
    if failed:
        reasons = dict.fromkeys(f"{r.attack.short} on {r.target.model.short}: {r.error}" for r in failed)
        for reason in list(reasons)[:MOST_REASONS]:
            console.print(visible(reason), style="red", markup=False, soft_wrap=True)
        console.print(f"{len(failed)} of {len(result.records)} evaluations failed; see the report", style="red")
        raise typer.Exit(1)
