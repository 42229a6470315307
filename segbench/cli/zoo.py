"""`segbench zoo`: networks with their weights, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segbench.cli.output import console, verb

if TYPE_CHECKING:
    from segbench.zoo.cards import Card

zoo_app = typer.Typer(
    help="Networks with their weights, by name: dataset/architecture/defense/seed@version.", no_args_is_help=True
)

NameArgument = Annotated[
    str, typer.Argument(help="dataset/architecture/defense/seed, with @version or the latest one.", metavar="NAME")
]
ZooOption = Annotated[
    list[str] | None,
    typer.Option(
        "--zoo",
        help="A zoo to search: a folder, s3://, gs://, hf://, http://. By default those of SEGBENCH_ZOO, else ./zoo.",
        metavar="URL",
    ),
]
LicenceOption = Annotated[str, typer.Option(help="SPDX identifier of the weights' licence.")]


@zoo_app.command("list", epilog="Example: segbench zoo list --zoo hf://someone/zoo")
@verb()
def list_(zoo: ZooOption = None) -> None:
    """List the networks of all zoos that are searched."""
    from segbench.zoo import places

    for place in places.zoos(zoo or ()):
        names = places.cache_of(place).names() if places.offline() and not place.local else place.names()
        typer.echo(f"{place.url}: {len(names) or 'no'} network{'s' * (len(names) != 1)}")
        for name in names:
            typer.echo(f"  {name}")


@zoo_app.command(epilog="Example: segbench zoo show digits/pspnet-tiny/sat/0@1")
@verb()
def show(name: NameArgument, zoo: ZooOption = None) -> None:
    """Show a network's card: architecture, training, licence, hash and numbers."""
    from rich.table import Table
    from rich.text import Text

    from segbench.reports.visible import one_line
    from segbench.zoo import places

    card = places.find_card(name, zoo or ())
    typer.echo(card.name)
    for key, value in _facts(card):
        typer.echo(f"  {key}: {one_line(str(value))}")
    if card.numbers:
        table = Table(title="per cent", title_justify="left")
        for heading in ("attack", "protocol", "split", "images", "mIoU", "aAcc"):
            table.add_column(
                heading, justify="left" if heading in ("attack", "protocol", "split") else "right", overflow="fold"
            )
        for n in card.numbers:
            named = (Text(one_line(text)) for text in (n.attack, n.protocol, n.split))
            table.add_row(*named, str(n.n_images), f"{n.miou:.1f}", f"{n.aacc:.1f}")
        console().print(table)


@zoo_app.command(epilog="Example: segbench zoo add quickstart --store runs --zoo zoo --licence CC-BY-4.0")
@verb()
def add(
    what: Annotated[str, typer.Argument(help="Name of a matrix that was run, or the digest of a training.")],
    store: Annotated[Path, typer.Option(help="Folder of checkpoints and records.")] = Path("runs"),
    zoo: ZooOption = None,
    licence: LicenceOption = "unknown",
    as_: Annotated[
        str | None, typer.Option("--as", help="Its name, for a single training.", show_default="made of the cell")
    ] = None,
) -> None:
    """Enter trained networks with their numbers into a zoo."""
    from segbench.store import Store
    from segbench.zoo import networks as networks
    from segbench.zoo import places
    from segbench.zoo.cards import ZooError, parse_name

    kept = Store(store)
    cells = list(networks.trained_cells(kept, what))
    if not cells:
        raise ZooError(f"{what}: none of its networks is trained in store {store}")
    if as_ is not None and len(cells) > 1:
        raise ZooError(f"{what}: --as names one network, but there are {len(cells)}; give a training's digest")
    target = places.zoos(zoo or ())[0]
    stem = parse_name(as_).stem if as_ else None
    for cell, records in cells:
        card = networks.add(kept, cell, records, target, licence=licence, stem=stem)
        typer.echo(f"{card.name} in {target.url}")


@zoo_app.command(epilog="Example: segbench zoo pull digits/pspnet-tiny/sat/0 --zoo https://example.org/zoo")
@verb()
def pull(
    name: NameArgument,
    zoo: ZooOption = None,
    out: Annotated[Path | None, typer.Option(help="A folder of your own for the two files.")] = None,
) -> None:
    """Download a network into the cache, and print where its weights lie."""
    from segbench.zoo import places

    path, card = places.resolve(name, zoo or ())
    typer.echo(f"{card.name}: {places.export(path, card, out) if out else path}")


@zoo_app.command(epilog="Example: segbench zoo push digits/pspnet-tiny/sat/0@1 --to hf://someone/zoo")
@verb()
def push(
    name: NameArgument,
    to: Annotated[str, typer.Option(help="The zoo that it goes to.", metavar="URL")],
    zoo: ZooOption = None,
) -> None:
    """Copy a network from the zoos that are searched into another one."""
    from segbench.zoo import places

    target = places.Zoo(to)
    path, card = places.resolve(name, zoo or ())
    target.put(card, path)
    typer.echo(f"{card.name} in {target.url}")


@zoo_app.command("import", epilog="Example: segbench zoo import sat.pth --as voc2012/pspnet-resnet50-deepstem/sat/0")
@verb()
def import_(
    file: Annotated[Path, typer.Argument(help="A checkpoint of the authors of DDC-AT (.pth).")],
    as_: Annotated[str, typer.Option("--as", help="What it shall be called.", metavar="NAME")],
    zoo: ZooOption = None,
    licence: LicenceOption = "unknown",
    source: Annotated[str | None, typer.Option(help="URL that the file came from.")] = None,
) -> None:
    """Convert a published checkpoint to safetensors, without running code in it, and enter it."""
    from segbench.zoo import networks as networks
    from segbench.zoo import places

    target = places.zoos(zoo or ())[0]
    card = networks.import_official(file, as_, target, licence=licence, source=source)
    typer.echo(f"{card.name} in {target.url}")


@zoo_app.command(epilog="Example: segbench zoo verify --zoo zoo")
@verb()
def verify(
    name: Annotated[str | None, typer.Argument(help="A network; by default all of them.", metavar="NAME")] = None,
    zoo: ZooOption = None,
) -> None:
    """Check hashes, cards, and that every file holds just the weights of its architecture."""
    from segbench.errors import SegbenchError
    from segbench.zoo import networks as networks
    from segbench.zoo import places

    urls = zoo or [place.url for place in places.zoos()]
    pairs = [(name, urls)] if name else [(one, [url]) for url in urls for one in places.Zoo(url).names()]
    faults = 0
    for one, searched in pairs:
        try:
            typer.echo(f"{networks.verify(one, searched).name}: good")
        except SegbenchError as error:
            faults += 1
            typer.echo(f"{one}: {error}")
    if faults:
        raise typer.Exit(1)


def _facts(card: Card) -> list[tuple[str, object]]:
    """Return what a card says beside its numbers, without what is not known."""
    found = [
        ("architecture", card.model.short),
        ("defense", card.defense.short),
        ("trained on", card.dataset.short if card.dataset else None),
        ("classes", f"{card.num_classes}" + (f" ({', '.join(card.classes)})" if card.classes else "")),
        ("training", card.training),
        ("licence", card.licence),
        ("source", card.source),
        ("sha256", card.sha256),
        ("bytes", f"{card.size:,}"),
    ]
    return [(key, value) for key, value in found if value is not None]
