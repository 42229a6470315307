"""`segbench report`: tables from records alone."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from segbench.cli import output
from segbench.cli.common import MetricsOption, StoreOption
from segbench.cli.output import JsonOption, verb
from segbench.errors import SegbenchError


@verb()
def report(
    what: Annotated[
        str | None,
        typer.Argument(help="Name of a matrix that was run, or a store's folder.", show_default="the whole store"),
    ] = None,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the files.", show_default="STORE/reports/MATRIX")] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="html, md, csv, cells, tex, tex-wide, parquet or figures; may be repeated.",
            show_default="html md csv",
        ),
    ] = None,
    published: Annotated[
        str | None, typer.Option(help="Show a paper's values beside one's own: xu2021 or croce2024.", metavar="PAPER")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="Kept images, by their place in the split, that the figures of single images show; with files for a "
            "paper.",
            metavar="3,17",
        ),
    ] = None,
    provenance: Annotated[bool, typer.Option("--provenance", help="Add dates, durations and machines.")] = False,
    metrics: MetricsOption = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Network whose errors under corruption are 100 % in mCE.",
            metavar="NETWORK",
            show_default="what the matrix says",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Regenerate the tables of a matrix, or of all in a store, from records alone."""
    from segbench.result import FORMATS, stored_result
    from segbench.store import Store
    from segbench.store.base import uncollected
    from segbench.store.store import lacking

    formats: Any = list(format_ or FORMATS)
    chosen = _indices(images)
    if chosen and "figures" not in formats:
        formats.append("figures")
    kept = Store(store or Path("runs"))
    if what is not None and (Path(what) / "matrices").is_dir():
        kept, what = Store(Path(what)), None
    names = kept.manifests() if what is None else [Path(what).stem]
    if not names:
        raise SegbenchError(f"{kept.root}: no matrix was run in this store")
    written, read = [], set[str]()
    for name in names:
        with uncollected():
            result = stored_result(kept, name)
            gc.freeze()  # the collector of cycles would go through all the records time and again
        if result is None:
            known = ", ".join(kept.manifests()) or "none yet"
            raise SegbenchError(f"{what}: no such matrix in store {kept.root}, which holds: {known}")
        read.update(result.seen.counts)
        if metrics:
            result = replace(result, manifest=result.manifest.model_copy(update={"metrics": tuple(metrics)}))
        if reference is not None:
            result = replace(result, manifest=result.manifest.model_copy(update={"reference": reference}))
        target = out if out is None or len(names) == 1 else out / name
        paths = result.report(target, formats, published=published, provenance=provenance, images=chosen)
        written.append({"matrix": name, "files": [str(path) for path in paths]})
        if not json:
            page = next((path for path in paths if path.suffix == ".html"), paths[0])
            typer.echo(f"report: {page}")
    if unsealed := kept.unsealed(read):
        typer.echo(lacking(kept.root, unsealed), err=True)
    if json:
        output.print_json("report", {"store": str(kept.root), "reports": written})


def _indices(written: str | None) -> tuple[int, ...]:
    """Return the places of images in the split: "3,17" gives 3 and 17."""
    if written is None:
        return ()
    parts = [part.strip() for part in written.split(",")]
    if not all(part.isdecimal() and part.isascii() and len(part) <= 9 for part in parts):
        raise SegbenchError(f"--images {written}: expected places in the split, such as 3,17")
    return tuple(map(int, parts))
