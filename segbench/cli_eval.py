"""`segbench eval`: one network that was not trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segbench.errors import Stopped


def eval_(
    model: Annotated[
        str,
        typer.Argument(
            help="package.module:factory, file.py:factory, torchvision:NAME, smp:ARCHITECTURE?encoder_name=NAME, "
            "hf:ORG/NAME, a network of the zoo, a TorchScript, torch.export or official checkpoint file, or an "
            "architecture such as pspnet(encoder=tiny).",
            metavar="MODEL",
        ),
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help='Dataset: "camvid(size=[120, 160])".')],
    attack: Annotated[
        list[str] | None, typer.Option("--attack", "-a", help="Attack, repeatable.", show_default="clean, bim")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="File of weights to load into the network.")] = None,
    convention: Annotated[
        Path | None, typer.Option(help="YAML file of the input that it expects: range, mean, std, channels, multiple.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="YAML file: for every class of the dataset the network's class or classes.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="How images are attacked and scored.")] = "whole-v1",
    split: Annotated[str, typer.Option(help="The split that is scored.")] = "val",
    limit: Annotated[int | None, typer.Option(help="Score only the first N images.", metavar="N", min=1)] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Folder of the dataset; also SEGBENCH_DATA_<NAME>.", metavar="NAME=PATH"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What tables call the network.")] = None,
    defense: Annotated[str, typer.Option(help="How it was trained, as tables say it.")] = "none",
    store: Annotated[Path, typer.Option(help="Folder of records and reports.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes on this machine.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the attacks' randomness.", min=0)] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where another input convention scores much better.")
    ] = False,
) -> None:
    """Attack a network of your own and tabulate how it fares; what is done already is not done again."""
    from segbench import api, cli, execute, prepare, progress, specs
    from segbench.given import default_name
    from segbench.store import Store

    console = cli._console()
    component = specs.bound("dataset", dataset).component.name
    folders = {key: str(path) for key, path in cli._folders(data, (component,)).items()}
    files = {"weights": weights, "convention": convention, "classes": classes}
    entry = {
        "load": model,
        "name": name or default_name(model),
        "defense": defense,
        "check": not force,
        **{key: str(path) for key, path in files.items() if path is not None},
    }
    matrix = api.single(
        entry,
        dataset,
        attack or ["clean", "bim"],
        protocol=protocol,
        split=split,
        limit=limit,
        seed=seed,
        runtime={"store": str(store), "device": device, "workers": workers, "data": folders},
    )
    kept = Store(store)
    plan = prepare.checked_plan(matrix, kept.cache_dir)
    try:
        with progress.display(console) as shown:
            records = execute.run(plan, kept, matrix.runtime, shown)
    except Stopped:
        console.print(f"Stopped; everything done is kept. To go on: [bold]{cli._again()}[/]", highlight=False)
        raise typer.Exit(130) from None
    page = cli._report(kept, matrix.name)
    cli._print_results(records, console)
    console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
    failed = [record for record in records if record.status != "done"]
    for record in failed:
        console.print(f"{record.attack.short}: {record.error}", style="red", markup=False)
    if failed:
        raise typer.Exit(1)
