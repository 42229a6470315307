"""`segbench plan`: what a run would do."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from segbench.cli import output
from segbench.cli.common import DataOption, LimitOption, MatrixArgument, SetOption, StoreOption, WeightsOption, load
from segbench.cli.output import JsonOption, verb


@verb(plugins=True)
def plan(
    matrix: MatrixArgument = "quickstart",
    store: StoreOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    set_: SetOption = None,
    weights: WeightsOption = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Time a few steps and estimate the whole.")] = False,
    json: JsonOption = False,
) -> None:
    """Show what a run would do: cells, passes, what is cached and what sharing saves; run nothing."""
    from segbench.execution import cost, prepare
    from segbench.store import Store
    from segbench.store.base import uncollected

    loaded = load(matrix, store, None, None, data, limit, set_, weights)
    with uncollected():
        planned = prepare.tentative_plan(loaded)
        gc.freeze()  # the collector of cycles would go through all the cells time and again
    found = cost.measured(planned, Store(loaded.runtime.store), estimate=estimate)
    if json:
        output.print_json("plan", found.plain())
    else:
        output.console().print(cost.summary(found))
