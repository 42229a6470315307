"""`segbench show`: one component or matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from segbench.cli import output
from segbench.cli.known import complete_name, known
from segbench.cli.output import JsonOption, verb
from segbench.errors import SegbenchError, unknown

if TYPE_CHECKING:
    from rich.console import Console


@verb(plugins=True)
def show(
    name: Annotated[
        str, typer.Argument(help="Name of a component or of a built-in matrix.", autocompletion=complete_name)
    ],
    json: JsonOption = False,
) -> None:
    """Show a component's description, options with defaults, and source; or a matrix file."""
    from importlib.resources import files

    there = known()
    found = [own[name] for own in there["components"].values() if name in own]
    matrix = (files("segbench") / "matrices" / f"{name}.yaml").read_text() if name in there["matrices"] else None
    if not found and matrix is None:
        names = {n: None for own in there["components"].values() for n in own} | dict.fromkeys(there["matrices"])
        raise SegbenchError("; ".join([unknown("component", name, names), *there["refused"]]))
    if json:
        output.print_json("show", {"matrix": matrix, "components": found})
        return
    console = output.console()
    if matrix is not None:
        from rich.syntax import Syntax

        console.print(Syntax(matrix, "yaml"))
    for component in found:
        _print(component, console)


def _print(component: dict[str, Any], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(
        f"[bold]{component['kind']} {component['name']}[/] (version {component['version']}, {component['module']})"
    )
    console.print(component["description"], markup=False, highlight=False)
    table = Table("option", "default", "meaning", title_justify="left")
    for name, option in component["options"].items():
        default = "required" if option["required"] else option["default"]
        table.add_row(*map(escape, (name, default, option["meaning"])))
    if component["options"]:
        console.print(table)
    for heading, text in (("Source", component["source"]), ("Departs from it in", component["departs"])):
        if text:
            console.print(f"{heading}: {text}", markup=False, highlight=False)
