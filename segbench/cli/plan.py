"""`segbench plan`: what a run would do."""

from __future__ import annotations

from typing import Annotated

import typer

from segbench.cli.common import DataOption, LimitOption, MatrixArgument, SetOption, StoreOption, WeightsOption, load


def plan(
    matrix: MatrixArgument = "quickstart",
    store: StoreOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    set_: SetOption = None,
    weights: WeightsOption = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Time a few steps and estimate the whole.")] = False,
) -> None:
    """Show what a run would do: cells, passes, what is cached and what sharing saves; run nothing."""
    from rich.console import Console

    from segbench.execution import cost, prepare
    from segbench.store import Store

    loaded = load(matrix, store, None, None, data, limit, set_, weights)
    planned = prepare.tentative_plan(loaded)
    Console().print(cost.summary(planned, Store(loaded.runtime.store), estimate=estimate))
