"""`segbench data`: look at datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segbench.cli.common import DataOption, folders

data_app = typer.Typer(help="Look at datasets.", no_args_is_help=True)


@data_app.command("check", epilog="Example: segbench data check camvid --data camvid=data/CamVid --sheet sheet.png")
def data_check(
    dataset: Annotated[str, typer.Argument(help='Dataset, with options if need be: "camvid(size=[90, 120])".')],
    data: DataOption = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a PNG of images with their masks.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file anew, trusting no earlier hash.")] = False,
) -> None:
    """Read every image and mask of a dataset and say what is wrong with them."""
    from rich.console import Console

    from segbench.components import specs
    from segbench.datasets.tools import check
    from segbench.datasets.tools.sheet import contact_sheet
    from segbench.execution import prepare

    found = folders(data, (dataset.partition("(")[0],))
    opened = prepare.open_bound(specs.bound("dataset", dataset), found)
    Console().print(check.describe(check.check(opened, verify=verify)), markup=False, highlight=False, soft_wrap=True)
    if sheet is not None:
        contact_sheet(opened, sheet)
        typer.echo(f"contact sheet: {sheet}")
