"""`segbench list`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from segbench.errors import SegbenchError


def list_(
    kind: Annotated[
        str | None, typer.Argument(help="attacks, defenses, models, datasets, protocols or matrices; all by default.")
    ] = None,
) -> None:
    """List what there is: attacks, defenses, models, datasets, protocols and matrices."""
    from rich.console import Console
    from rich.table import Table

    from segbench.components import catalog
    from segbench.config.load import builtin_matrices

    kinds = {f"{one}s": one for one in catalog.PACKAGES}
    known = [*kinds, "matrices"]
    if kind is not None and kind not in known:
        raise SegbenchError(catalog.unknown("list of", kind, dict.fromkeys(known)))
    console = Console()
    for name in [kind] if kind else known:
        table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2))
        if name == "matrices":
            for matrix, title in builtin_matrices().items():
                table.add_row(matrix, title)
        else:
            for component in catalog.components(kinds[name]).values():
                table.add_row(component.name, component.summary)
        console.print(table)
