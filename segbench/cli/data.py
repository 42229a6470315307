"""`segbench data`: look at datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segbench.cli import output
from segbench.cli.common import DataOption, folders
from segbench.cli.output import JsonOption, verb

data_app = typer.Typer(help="Look at datasets.", no_args_is_help=True)


@data_app.command("check", epilog="Example: segbench data check camvid --data camvid=data/CamVid --sheet sheet.png")
@verb(plugins=True)
def data_check(
    dataset: Annotated[str, typer.Argument(help='Dataset, with options if need be: "camvid(size=[90, 120])".')],
    data: DataOption = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a PNG of images with their masks.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file anew, trusting no earlier hash.")] = False,
    json: JsonOption = False,
) -> None:
    """Read every image and mask of a dataset and say what is wrong with them."""
    from segbench.components import specs
    from segbench.datasets.tools import check
    from segbench.datasets.tools.sheet import contact_sheet
    from segbench.execution import prepare

    opened = prepare.open_bound(specs.bound("dataset", dataset), folders(data, (dataset.partition("(")[0],)))
    found = check.check(opened, verify=verify)
    if sheet is not None:
        contact_sheet(opened, sheet)
    if json:
        output.print_json(
            "data check", {**found.model_dump(mode="json"), "sheet": None if sheet is None else str(sheet)}
        )
        return
    output.console().print(check.describe(found), markup=False, highlight=False, soft_wrap=True)
    if sheet is not None:
        typer.echo(f"contact sheet: {sheet}")
