"""`segbench compare`: two stores side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segbench.cli import output
from segbench.cli.output import JsonOption, verb
from segbench.errors import SegbenchError


@verb()
def compare(
    store_a: Annotated[Path, typer.Argument(help="A store's folder.")],
    store_b: Annotated[Path, typer.Argument(help="Another store's folder.")],
    out: Annotated[Path | None, typer.Option(help="Write the Markdown to this file.", show_default="print it")] = None,
    json: JsonOption = False,
) -> None:
    """Compare two stores: differences of what both evaluated, and what changed in recipes, weights and software."""
    from segbench.files import write_bytes
    from segbench.reports import compare as comparison
    from segbench.store import Store
    from segbench.store.seen import Seen

    a, b = Store(store_a), Store(store_b)
    names: dict[str, str] = {}
    for kept in (a, b):
        if not kept.manifests():
            raise SegbenchError(f"{kept.root}: no matrix was run in this store")
        for matrix in kept.manifests():
            manifest = kept.manifest(matrix, filled=False)
            names |= {} if manifest is None else manifest.labels
    seen_a, seen_b = Seen(), Seen()
    found = comparison.compare(
        a.records(seen_a),
        b.records(seen_b),
        lambda digest: a.counts(digest, seen_a),
        lambda digest: b.counts(digest, seen_b),
        names,
    )
    text = comparison.to_markdown(found, str(store_a), str(store_b))
    if out is not None:
        write_bytes(out, text.encode())
    if json:
        stores = {"store_a": str(store_a), "store_b": str(store_b), "file": None if out is None else str(out)}
        output.print_json("compare", {**stores, **comparison.to_plain(found)})
    else:
        typer.echo(text if out is None else f"comparison: {out}")
