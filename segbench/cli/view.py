"""`segbench view`: stores in a browser, while they fill."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from segbench.cli.output import verb
from segbench.errors import SegbenchError


@verb()
def view(
    stores: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of records, several if need be.", metavar="[STORE]...", show_default="runs"),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 for any.", min=0, max=65535)] = 8720,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Look at results in a browser on this machine, also while they are made; Ctrl-C ends it."""
    from segbench.view.server import Server

    folders = list(dict.fromkeys(stores or [Path("runs")]))
    for folder in folders:
        if not folder.is_dir():
            raise SegbenchError(f"{folder}: there is no such store; name the folder of --store, which a run makes")
    with Server(folders, port) as server:
        typer.echo(f"{server.url} shows {', '.join(map(str, folders))}; Ctrl-C ends it")
        if open_:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
