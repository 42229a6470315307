"""`segbench list`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from segbench.cli import output
from segbench.cli.output import JsonOption, verb
from segbench.errors import SegbenchError


@verb(plugins=True)
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="attacks, defenses, models, datasets, protocols or matrices; all by default.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List what there is: attacks, defenses, models, datasets, protocols and matrices."""
    from rich.markup import escape
    from rich.table import Table

    from segbench.components import catalog
    from segbench.config.load import builtin_matrices

    kinds = {f"{one}s": one for one in catalog.PACKAGES}
    known = [*kinds, "matrices"]
    if kind is not None and kind not in known:
        raise SegbenchError(catalog.unknown("list of", kind, dict.fromkeys(known)))
    found = {
        name: builtin_matrices()
        if name == "matrices"
        else {one.name: one.summary for one in catalog.components(kinds[name]).values()}
        for name in ([kind] if kind else known)
    }
    for sentence in catalog.refused():
        typer.echo(sentence, err=True)
    if json:
        output.print_json("list", found)
        return
    console = output.console()
    for name, rows in found.items():
        table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for row in rows.items():
            table.add_row(*map(escape, row))
        console.print(table)
