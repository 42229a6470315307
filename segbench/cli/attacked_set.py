"""`segbench attacked-set`: attacked copies of a split, and the scores of predictions that come back as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segbench.cli import output
from segbench.cli.common import folders, show_result
from segbench.cli.output import JsonOption, verb

attacked_set_app = typer.Typer(
    help="Judge networks that nobody hands over: write attacked images, score the label maps that come back.",
    no_args_is_help=True,
)

DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="Folder of the dataset; also SEGBENCH_DATA_<NAME>.", metavar="NAME=PATH"),
]


@attacked_set_app.command(
    epilog="Example: segbench attacked-set export set -d camvid --data camvid=CamVid -s net.py:build -a bim -a segpgd"
)
@verb(plugins=True)
def export(
    out: Annotated[Path, typer.Argument(help="Folder of the set; one that was left unfinished goes on.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help='Dataset: "camvid(size=[120, 160])".')],
    substitute: Annotated[
        list[str],
        typer.Option("--substitute", "-s", help="Network, as `eval` takes it, on which attacks are made; repeatable."),
    ],
    attack: Annotated[list[str], typer.Option("--attack", "-a", help="Attack, repeatable; clean images come along.")],
    protocol: Annotated[str, typer.Option(help="How images are cut, predicted and scored.")] = "whole-v1",
    split: Annotated[str, typer.Option(help="The split that is attacked.")] = "val",
    limit: Annotated[int | None, typer.Option(help="Only the first N images.", metavar="N", min=1)] = None,
    data: DataOption = None,
    store: Annotated[Path, typer.Option(help="Folder that remembers which checks passed.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the attacks' randomness.", min=0)] = 0,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a TorchScript or torch.export file, which can run code.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where another input convention of a substitute scores much better.")
    ] = False,
) -> None:
    """Write an attacked copy of a split as PNG files, with a manifest; the budget holds for the files."""
    from segbench.attacked_set.export import export as export_set
    from segbench.components import specs

    export_set(
        out,
        dataset,
        substitute,
        attack,
        protocol=protocol,
        split=split,
        limit=limit,
        seed=seed,
        device=device,
        data=folders(data, (specs.bound("dataset", dataset).component.name,)),
        store=store,
        trust=trust,
        force=force,
        say=lambda text: typer.echo(text, err=True),
    )
    typer.echo(f"manifest: {out / 'manifest.json'}")


@attacked_set_app.command(epilog="Example: segbench attacked-set score set predictions --name ours --store runs")
@verb(plugins=True)
def score(
    folder: Annotated[Path, typer.Argument(help="The attacked set; only its manifest is read.")],
    predictions: Annotated[
        Path, typer.Argument(help="Folder with a folder of 8-bit grey PNGs for each condition of the set.")
    ],
    name: Annotated[str, typer.Option(help="What tables call the network.")],
    defense: Annotated[str, typer.Option(help="How it was trained, as tables say it.")] = "none",
    seed: Annotated[int, typer.Option(help="Tells runs of one training apart.", min=0)] = 0,
    data: DataOption = None,
    store: Annotated[Path, typer.Option(help="Folder of records and reports.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Score label maps of an attacked set against the dataset's masks, and show them beside those of others."""
    from segbench.attacked_set.manifest import read_set
    from segbench.attacked_set.score import score as score_files

    component = read_set(folder).dataset.name
    result = score_files(
        folder,
        predictions,
        name=name,
        defense=defense,
        seed=seed,
        data=folders(data, (component,)),
        store=store,
    )
    show_result(result, output.console(stderr=json), "attacked-set score" if json else None)
