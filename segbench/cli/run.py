"""`segbench run`: train, attack and tabulate a matrix."""

from __future__ import annotations

from typing import Annotated

import typer

from segbench.cli.common import (
    DataOption,
    LimitOption,
    MatrixArgument,
    SetOption,
    StoreOption,
    WeightsOption,
    interruptible,
    load,
    show_result,
)


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
    weights: WeightsOption = None,
) -> None:
    """Train, attack and tabulate a matrix; what is done already is not done again."""
    from rich.console import Console

    from segbench.api import run_matrix
    from segbench.cli import progress
    from segbench.config.given_weights import without_awaiting
    from segbench.reports.visible import visible

    console = Console()
    loaded = load(matrix, store, device, workers, data, limit, set_, weights)
    loaded, left_out = without_awaiting(loaded)
    for sentence in left_out:
        console.print(visible(sentence), soft_wrap=True, highlight=False, markup=False)
    with interruptible(console), progress.display(console) as shown:
        result = run_matrix(loaded, shown)
    show_result(result, console)
