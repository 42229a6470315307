"""`segbench leaderboard`: entries, the site made of them, and their verification."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from segbench.cli.output import verb

leaderboard_app = typer.Typer(
    help="A leaderboard: one JSON file per dataset, protocol, threat model and network, and the site made of them.",
    no_args_is_help=True,
)

EntryArgument = Annotated[Path, typer.Argument(help="An entry's JSON file.", metavar="ENTRY")]


@leaderboard_app.command(epilog="Example: segbench leaderboard add runs --out entries --licence CC-BY-4.0")
@verb()
def add(
    store: Annotated[Path, typer.Argument(help="Folder of checkpoints and records.")],
    out: Annotated[Path, typer.Option(help="Folder of entries.", metavar="ENTRIES")],
    matrix: Annotated[
        list[str] | None,
        typer.Option(help="A matrix that was run there; may be repeated.", show_default="all", metavar="NAME"),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier of the weights' licence.")] = None,
    paper: Annotated[str | None, typer.Option(help="Address of the method's paper.", metavar="URL")] = None,
    code: Annotated[str | None, typer.Option(help="Address of its code.", metavar="URL")] = None,
    extra_data: Annotated[
        str | None,
        typer.Option(help="What it was trained on besides the dataset's training split.", metavar="TEXT"),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Call a network otherwise; may be repeated.", metavar="OLD=NEW")
    ] = None,
) -> None:
    """Turn a store's finished records into entries; networks that differ in their seed alone are one."""
    from segbench.leaderboard import adding, entering
    from segbench.leaderboard.composing import Details
    from segbench.reports.visible import one_line
    from segbench.store import Store

    details = Details(
        licence=licence, paper=paper, code=code, extra_data=extra_data, names=adding.parse_names(name or [])
    )
    made = adding.entries(Store(store), matrix or [], details)
    for path, outcome in entering.enter(made.entries, out):
        typer.echo(f"{outcome}: {path}")
    for note in made.notes:
        typer.echo(one_line(note))


@leaderboard_app.command(epilog="Example: segbench leaderboard check entries")
@verb()
def check(
    files: Annotated[list[Path], typer.Argument(help="Entries, or folders of them.", metavar="FILE...")],
) -> None:
    """Say every mistake of every entry; exit code 2 if there is one."""
    from segbench.leaderboard import board_files
    from segbench.leaderboard import entry_files as entry_files

    entries = entry_files.load(files)
    board_files.load(files, entries)
    typer.echo(f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}: no mistakes")


@leaderboard_app.command(
    epilog="Example: segbench leaderboard build entries --out site --url https://example.org/board"
)
@verb()
def build(
    entries: Annotated[Path, typer.Argument(help="Folder of entries.", metavar="ENTRIES")],
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("site"),
    title: Annotated[str, typer.Option(help="Its title.")] = "Robustness leaderboard",
    url: Annotated[
        str | None, typer.Option(help="Where it will be, for the sitemap and previews; links are relative.")
    ] = None,
) -> None:
    """Make a static site of entries, for any host or none."""
    from segbench.errors import SegbenchError
    from segbench.leaderboard import board_files
    from segbench.leaderboard import entry_files as entry_files
    from segbench.reports.leaderboard import site

    loaded = entry_files.load([entries])
    about = board_files.load([entries], loaded)
    sortable = find_spec("itables") is not None
    try:
        paths = site.build(loaded, out, title=title, url=url, sortable=sortable, about=about)
    except ValueError as error:
        raise SegbenchError(str(error)) from error
    typer.echo(f"site: {out / 'index.html'} ({len(paths)} files)")


@leaderboard_app.command(epilog="Example: segbench leaderboard bundle entries/.../pspnet-sat.json --store runs")
@verb()
def bundle(
    entry: EntryArgument,
    store: Annotated[Path, typer.Option(help="Folder of the records that it was made of.")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("bundle.zip"),
) -> None:
    """Pack what a reviewer needs: records, counts, and a sample of attacked images with predictions."""
    from segbench.files import write_bytes
    from segbench.leaderboard import bundle as bundles
    from segbench.leaderboard import entry_files as entry_files
    from segbench.store import Store

    packed = bundles.pack(entry_files.read(entry), Store(store))
    write_bytes(out, packed)
    typer.echo(f"bundle: {out} ({len(packed):,} bytes)")


@leaderboard_app.command(
    epilog="Example: segbench leaderboard verify bundle.zip --weights weights.safetensors --entry entries/.../net.json"
)
@verb()
def verify(
    bundle: Annotated[Path, typer.Argument(help="What `bundle` packed.", metavar="BUNDLE")],
    weights: Annotated[
        list[Path] | None, typer.Option(help="A network's safetensors file; may be repeated.", metavar="FILE")
    ] = None,
    entry: Annotated[
        Path | None, typer.Option(help="The entry: marked as verified if all is well.", metavar="FILE")
    ] = None,
) -> None:
    """Check a submission, and predict its sample again from the weights; exit code 1 if it does not hold."""
    from segbench.leaderboard import entering
    from segbench.leaderboard import entry_files as entry_files
    from segbench.leaderboard import verify as verifying
    from segbench.reports.visible import one_line

    given = None if entry is None else entry_files.read(entry)
    verdict = verifying.verify(bundle, weights or [], given)
    for line in (*verdict.facts, *verdict.problems):
        typer.echo(one_line(line))
    if verdict.problems:
        raise typer.Exit(1)
    if entry is not None and given is not None and verdict.verification is not None:
        entering.mark(entry, given, verdict.verification)
        typer.echo(f"verified: {entry}")
