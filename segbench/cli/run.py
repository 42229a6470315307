"""`segbench run`: train, attack and tabulate a matrix."""

from __future__ import annotations

from typing import Annotated

import typer

from segbench.cli import output
from segbench.cli.common import (
    DataOption,
    LimitOption,
    MatrixArgument,
    MetricsOption,
    ProfileOption,
    SetOption,
    StoreOption,
    TrackOption,
    WeightsOption,
    interruptible,
    load,
    show_result,
)
from segbench.cli.engines import (
    AddressOption,
    DetachOption,
    EngineOption,
    SlurmOption,
    engine_options,
    show_submitted,
)
from segbench.cli.output import JsonOption, verb


@verb(plugins=True)
def run(
    matrix: MatrixArgument = "quickstart",
    store: StoreOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default="auto")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine.", show_default="what fits the machine", min=1)
    ] = None,
    data: DataOption = None,
    limit: LimitOption = None,
    metrics: MetricsOption = None,
    set_: SetOption = None,
    track: TrackOption = None,
    weights: WeightsOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    slurm: SlurmOption = None,
    detach: DetachOption = False,
    profile: ProfileOption = False,
    json: JsonOption = False,
) -> None:
    """Train, attack and tabulate a matrix; what is done already is not done again."""
    terminal = output.console(stderr=json)
    with interruptible(terminal), output.display(terminal) as shown:
        from segbench.api import run_matrix, submit_matrix
        from segbench.config.given_weights import without_awaiting
        from segbench.reports.visible import visible

        more = {**engine_options(engine, address, slurm), "--profile": profile or None}
        asked = load(matrix, store, device, workers, data, limit, set_, weights, metrics, track, more)
        loaded, left_out = without_awaiting(asked)
        for sentence in left_out:
            terminal.print(visible(sentence), soft_wrap=True, highlight=False, markup=False)
        if detach:
            numbers = submit_matrix(loaded, shown)
        else:
            result = run_matrix(loaded, shown)
    if not detach:
        show_result(result, terminal, "run" if json else None)
    elif json:
        output.print_json("run", {"matrix": loaded.name, "store": str(loaded.runtime.store), "submitted": numbers})
    else:
        show_submitted(terminal, numbers, loaded.runtime.store)
