"""`segbench list`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from segbench.cli import output
from segbench.cli.known import KINDS, known
from segbench.cli.output import JsonOption, verb
from segbench.errors import SegbenchError, unknown

LISTS = (*(f"{kind}s" for kind in KINDS), "matrices")


@verb(plugins=True)
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="attacks, defenses, models, datasets, protocols or matrices; all by default.",
            autocompletion=lambda incomplete: [one for one in LISTS if one.startswith(incomplete)],
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List what there is: attacks, defenses, models, datasets, protocols and matrices."""
    from rich.markup import escape
    from rich.table import Table

    there = known()
    lists = {f"{one}s": {name: c["summary"] for name, c in own.items()} for one, own in there["components"].items()}
    lists["matrices"] = there["matrices"]
    if kind is not None and kind not in lists:
        raise SegbenchError(unknown("list of", kind, lists))
    for sentence in there["refused"]:
        typer.echo(sentence, err=True)
    chosen = lists if kind is None else {kind: lists[kind]}
    if json:
        output.print_json("list", chosen)
        return
    console = output.console()
    for name, rows in chosen.items():
        table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for row in rows.items():
            table.add_row(*map(escape, row))
        console.print(table)
