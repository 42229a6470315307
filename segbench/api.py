"""The Python interface: evaluate, attack and load networks of one's own."""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from attacks.budget import check_budget
from reports.records import Manifest, Record
from reports.render import Format, render
from reports.tables import tidy
from segbench import config, engine, execute, loaders, networks, prepare, specs
from segbench.adapter import Adapter
from segbench.errors import SegbenchError
from segbench.given import Convention, default_name, given
from segbench.matrix import Matrix
from segbench.store import Store

Network = nn.Module | Callable[[Tensor], Any]


@dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Attributes:
        manifest: what was asked for, with the records.
        store: the folder that holds them.
    """

    manifest: Manifest
    store: Path

    @property
    def records(self) -> tuple[Record, ...]:
        """A record for every attack, in order."""
        return self.manifest.records

    @property
    def table(self) -> pd.DataFrame:
        """A row for every record; metrics in per cent."""
        return tidy(self.records)

    def miou(self, attack: str) -> float:
        """Return the mIoU under an attack, in per cent.

        Args:
            attack: as it was asked for, or its short string in the table.

        Raises:
            SegbenchError: it was not asked for, or its evaluation failed.
        """
        short = specs.bound("attack", attack).short
        for record in self.records:
            if record.attack.short == short:
                if record.scores is None:
                    raise SegbenchError(f"{short}: {record.error or 'was not evaluated'}")
                return record.scores.miou
        raise SegbenchError(f"{short} was not evaluated; there are {', '.join(r.attack.short for r in self.records)}")

    def report(self, out: str | Path, formats: Sequence[Format] = ("html", "md", "csv")) -> list[Path]:
        """Write a report and return its files.

        Args:
            out: folder, made if need be.
            formats: which files.
        """
        return render(self.manifest, Path(out), formats)


def evaluate(
    model: str | Network,
    dataset: str,
    attacks: Sequence[str] = ("clean", "bim"),
    *,
    protocol: str = "whole-v1",
    split: str = "val",
    limit: int | None = None,
    weights: str | Path | None = None,
    convention: Mapping[str, Any] | str | Path | None = None,
    classes: Mapping[str, Any] | str | Path | None = None,
    name: str | None = None,
    defense: str = "none",
    seed: int = 0,
    store: str | Path = "runs",
    device: str = "auto",
    data: str | Path | Mapping[str, str | Path] | None = None,
    force: bool = False,
) -> Result:
    """Attack a network and score it; what the store holds already is not done again.

    The network is left as it was: a copy of it is evaluated. What is done is what `segbench eval` does.

    Args:
        model: a network, its input -> logits, or what `segbench eval` takes, such as "torchvision:fcn_resnet50".
        dataset: name with options, such as "camvid(size=[120, 160])".
        attacks: attacks, such as "bim(steps=6)"; "clean" for the images as they are.
        protocol: how images are attacked and scored.
        split: the split that is scored.
        limit: number of its first images; None for all.
        weights: file of weights to load into the network first.
        convention: the input that the network expects (see `segbench.given.Convention`), or a YAML file of it.
        classes: for every class of the dataset the network's class, classes or none, or a YAML file of it.
        name: what tables call the network.
        defense: how it was trained, as tables say it.
        seed: of the attacks' randomness.
        store: folder of records.
        device: "auto", "cpu", "cuda" or "cuda:N".
        data: folder of the dataset, or folders by dataset.
        force: evaluate even where another input convention scores much better on clean images.

    Raises:
        SegbenchError: an argument is wrong, the network does not fit the dataset, or another input convention scores
            much better.
    """
    load, kept = (model, None) if isinstance(model, str) else _keep(model)
    entry: dict[str, Any] = {
        "load": load,
        "weights": None if weights is None else str(weights),
        "convention": str(convention) if isinstance(convention, Path) else convention or {},
        "classes": str(classes) if isinstance(classes, Path) else classes,
        "name": name or (default_name(load) if isinstance(model, str) else _class_name(model)),
        "defense": defense,
        "check": not force,
    }
    component = specs.bound("dataset", dataset).component.name
    folders = data if isinstance(data, Mapping) else {} if data is None else {component: data}
    matrix = single(
        entry,
        dataset,
        attacks,
        protocol=protocol,
        split=split,
        limit=limit,
        seed=seed,
        runtime={"store": str(store), "device": device, "workers": 1, "data": {k: str(v) for k, v in folders.items()}},
    )
    results = Store(matrix.runtime.store)
    plan = prepare.checked_plan(matrix, results.cache_dir)
    records = execute.run(plan, results, matrix.runtime, Silent())
    del kept
    manifest = Manifest(name=matrix.name, title=matrix.title, records=tuple(records))
    return Result(manifest, matrix.runtime.store)


def single(
    entry: Mapping[str, Any],
    dataset: str,
    attacks: Sequence[str],
    *,
    protocol: str,
    split: str,
    limit: int | None,
    seed: int,
    runtime: Mapping[str, Any],
) -> Matrix:
    """Return the matrix of one given network.

    Args:
        entry: the network, as a matrix's `networks` has it.
        dataset: name with options.
        attacks: short strings.
        protocol: short string.
        split: the split that is scored.
        limit: number of its first images; None for all.
        seed: of the attacks' randomness.
        runtime: how and where, as a matrix has it.
    """
    content = {
        "datasets": [dataset],
        "networks": [entry],
        "attacks": list(attacks),
        "protocol": protocol,
        "split": split,
        "limit": limit,
        "attack_seed": seed,
        "runtime": dict(runtime),
    }
    named = given(entry).name
    return config.from_data({**content, "title": f"{named} on {dataset}"}, "eval-" + re.sub(r"[^\w.-]+", "-", named))


def attack(
    model: Network,
    images: Tensor,
    masks: Tensor,
    attack: str,
    *,
    ignore_index: int = 255,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return adversarial images (N, 3, H, W), after checking that they keep their budget.

    Args:
        model: network, images in [0, 1] -> logits, or a mapping with `out`, or an object with `logits`.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        attack: the attack with its options, such as "segpgd(eps=4/255)".
        ignore_index: label of void pixels.
        generator: source of the attack's randomness.

    Raises:
        SegbenchError: the attack or an option is not known.
    """
    bound = specs.bound("attack", attack).attack()
    network = Adapter(model, Convention(), None).to(images.device)
    adversarial = bound(network, images, masks, ignore_index=ignore_index, generator=generator)
    check_budget(adversarial, images, bound.threat)
    return adversarial


def load_model(
    spec: str,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    convention: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a network in eval mode: images (N, 3, H, W) in [0, 1] -> logits (N, C, H, W).

    Args:
        spec: what `segbench eval` takes, such as "file.py:factory" or "smp:unet?encoder_name=resnet34".
        num_classes: classes of a network that is built here; a file knows its own.
        weights: file of weights to load into it.
        convention: the input that it expects, where that differs from what its library says.

    Raises:
        SegbenchError: there is no such network, or the weights do not fit.
    """
    entry = given({"load": spec, "weights": None if weights is None else str(weights), "convention": convention or {}})
    return networks.open_adapter(entry, num_classes)


def _keep(model: Network) -> tuple[str, nn.Module]:
    """Put a copy of a network where this process's evaluations find it, as long as the copy lives."""
    kept = copy.deepcopy(model) if isinstance(model, nn.Module) else _Function(model)
    key = uuid.uuid4().hex
    loaders.in_memory[key] = kept
    return f"memory:{key}", kept


def _class_name(model: Network) -> str:
    return getattr(model, "__name__", type(model).__name__)


class _Function(nn.Module):
    """A callable that is no module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images)


class Silent:
    """A display that shows nothing; see `segbench.execute.Display`."""

    def start(self, jobs: Mapping[str, str], cells: int, cached: int) -> None:
        """Hear that work begins."""

    def update(self, update: engine.Update) -> None:
        """Hear that a job went on."""

    def finish(self, job: str, cells: int, error: str | None) -> None:
        """Hear that a job ended."""
