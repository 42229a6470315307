"""`segbench eval`: one network that was not trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segbench.cli import output as words
from segbench.cli.common import MetricsOption, ProfileOption, TrackOption, folders, interruptible, show_result
from segbench.cli.known import WAYS, completing
from segbench.cli.output import JsonOption, verb


@verb(plugins=True)
def eval_(
    model: Annotated[
        str,
        typer.Argument(
            help="package.module:factory, file.py:factory, torchvision:NAME, smp:ARCHITECTURE?encoder_name=NAME, "
            "hf:ORG/NAME, mmseg:CONFIG, sea:NAME, a network of the zoo, a training such as runs/train/DIGEST, a "
            "TorchScript, torch.export, ONNX or official checkpoint file, or an architecture such as "
            "pspnet(encoder=tiny).",
            metavar="MODEL",
            autocompletion=completing("model", WAYS),
        ),
    ],
    dataset: Annotated[
        list[str],
        typer.Option(
            "--dataset",
            "-d",
            help='Dataset, repeatable: "camvid(size=[120, 160])".',
            autocompletion=completing("dataset"),
        ),
    ],
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack", "-a", help="Attack, repeatable.", show_default="clean, bim", autocompletion=completing("attack")
        ),
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
    output: Annotated[
        str | None, typer.Option(help="Key, attribute or place of the logits in what the network returns.")
    ] = None,
    binary: Annotated[
        bool, typer.Option("--binary", help="One channel: the logit of the second of two classes.")
    ] = False,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Accept weights that lack part of the network; it is random.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a TorchScript or torch.export file, which can run code.")
    ] = False,
    access: Annotated[
        str | None,
        typer.Option(help="What the network gives: gradients, scores or labels.", show_default="found out"),
    ] = None,
    substitute: Annotated[
        list[str] | None,
        typer.Option(
            help="Network, as MODEL, on which attacks are made that need more than MODEL gives; repeatable.",
            metavar="MODEL",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where another input convention scores much better.")
    ] = False,
    metrics: MetricsOption = None,
    track: TrackOption = None,
    profile: ProfileOption = False,
    json: JsonOption = False,
) -> None:
    """Attack a network of your own and tabulate how it fares; what is done already is not done again."""
    terminal = words.console(stderr=json)
    with interruptible(terminal), words.display(terminal) as shown:
        from segbench.api import evaluate
        from segbench.components import specs

        names = [specs.parse(each)[0] for each in dataset]
        result = evaluate(
            model,
            dataset,
            attack or ("clean", "bim"),
            protocol=protocol,
            split=split,
            limit=limit,
            weights=weights,
            convention=convention,
            classes=classes,
            name=name,
            defense=defense,
            seed=seed,
            metrics=metrics or (),
            store=store,
            device=device,
            workers=workers,
            data=folders(data, names),
            output=output,
            binary=binary,
            incomplete=incomplete,
            trust=trust,
            access=access,
            substitutes=substitute or (),
            force=force,
            track=track or (),
            profile=profile,
            display=shown,
        )
    show_result(result, terminal, "eval" if json else None)
