"""`segbench store`: look after a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segbench.cli import output
from segbench.cli.output import JsonOption, verb

store_app = typer.Typer(help="Look after a folder of checkpoints, records and reports.", no_args_is_help=True)


@store_app.command(epilog="Example: segbench store verify runs")
@verb()
def verify(
    store: Annotated[Path, typer.Argument(help="Folder of checkpoints, records and reports.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Read every file of a store and make all scores again of their counts; exit code 1 if something is damaged."""
    from segbench.store.verify import check

    found = check(store)
    if json:
        damages = [damage._asdict() for damage in found.damages]
        unsealed = [str(path) for path in found.unsealed]
        content = {**found._asdict(), "store": str(store), "damages": damages, "unsealed": unsealed}
        output.print_json("store verify", content)
        raise typer.Exit(1 if found.damages else 0)
    for damage in found.damages:
        typer.echo(f"{damage.what}; {damage.then}")
    wrong = f"{len(found.damages)} damaged or missing" if found.damages else "nothing damaged"
    typer.echo(f"{store}: {found.files} files read, {wrong}")
    if found.unsealed:
        typer.echo(
            f"{len(found.unsealed)} files have no checksum, as those of segbench 0.1, so that a change of them can "
            f"go unnoticed, such as {found.unsealed[0]}"
        )
    if found.undone:
        typer.echo(f"{found.undone} evaluations that its matrices ask for are not done")
    if found.unasked:
        typer.echo(f"{found.unasked} evaluations belong to no matrix that was run here")
    if found.damages:
        raise typer.Exit(1)
