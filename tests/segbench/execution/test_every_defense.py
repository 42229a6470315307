"""Every defense trains one epoch on architectures of every kind, resumes bit for bit, and exports a plain network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from segbench.components import catalog, specs
from segbench.config.matrix import Runtime
from segbench.defenses.base import Dynamic, Wrapped
from segbench.errors import Stopped
from segbench.model_zoo.base import Segmenter
from segbench.networks.load import load_network
from segbench.plan.networks import TrainCell
from segbench.plan.plan import Plan
from segbench.store import Store
from segbench.training.train import run_training

FAMILIES: dict[str, dict[str, Any]] = {
    "pspnet": {"name": "pspnet", "encoder": "tiny"},
    "deeplabv3": {"name": "deeplabv3", "encoder": "tiny", "rates": [1, 2, 3]},
    "unet": {"name": "smp", "architecture": "unet", "encoder": "resnet18"},
    "segformer": {"name": "smp", "architecture": "segformer", "encoder": "mit_b0"},
}
DATA = {"name": "digits", "size": 32, "train": 9, "val": 2, "dev": 1, "digits": [0, 1]}
RECIPE = {"optimizer": "adamw", "lr": 0.001, "batch_size": 4, "epochs": 1, "augmentation": {"flip": 0.5}}
CPU = torch.device("cpu")


DEFENSES = list(catalog.components("defense"))
INSIDE = ("ddcat", "multitask", "pir-at", "teacher-student")
"""Defenses that look into a network or change it: they are tried on every family, the others on two."""
OTHERS = [family for family in FAMILIES if family != "pspnet"]
PAIRS = [
    (name, family)
    for place, name in enumerate(DEFENSES)
    for family in (OTHERS if name in INSIDE else [OTHERS[place % len(OTHERS)]])
]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFENSES)
def test_defense_resumes(tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, name: str) -> None:
    cell, store = trained(tiny_plan, silent(), tmp_path, name, "pspnet")
    exported(cell, store, "pspnet")
    parts = Store(tmp_path / "parts")
    with pytest.raises(Stopped):
        train(cell, parts, silent(stop_at=1))
    train(cell, parts, silent())
    assert store.weights(cell.digest).read_bytes() == parts.weights(cell.digest).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_defense_trains_other_families(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, name: str, family: str
) -> None:
    exported(*trained(tiny_plan, silent(), tmp_path, name, family), family)


def train(cell: TrainCell, store: Store, reporter: Any) -> None:
    run_training(cell, store, Runtime(checkpoint_every=1e9), CPU, reporter)


def trained(
    tiny_plan: Callable[..., Plan], reporter: Any, folder: Path, name: str, family: str
) -> tuple[TrainCell, Store]:
    """Train a defense on a family for one epoch, and look at its history."""
    options = {}
    if name == "pir-at":
        undefended: Segmenter = specs.bound("model", FAMILIES[family]).make(num_classes=3)
        save_file(undefended.trunk.encoder.state_dict(), folder / "robust.safetensors")
        options["backbone"] = str(folder / "robust.safetensors")
    defense = {"name": name, **options}
    plan = tiny_plan(dataset=DATA, models=[FAMILIES[family]], defenses=[defense], transfer=None, recipe=RECIPE)
    (cell,) = plan.trainings
    store = Store(folder / "whole")
    train(cell, store, reporter)
    history = pd.read_csv(store.train_dir(cell.digest) / "history.csv")
    assert history["iteration"].tolist() == [2]
    assert history["loss"].notna().all()
    return cell, store


def exported(cell: TrainCell, store: Store, family: str) -> None:
    """See that a network without its defense is one of its family, with no parameter more."""
    undefended: Segmenter = specs.bound("model", FAMILIES[family]).make(num_classes=3)
    dataset = cell.data.open()
    deployed = load_network(cell, store, CPU, len(dataset.classes), dataset.ignore_index)
    image = dataset.split("val")[0].image[None].float() / 255
    assert deployed(image).shape == (1, 3, 32, 32)
    plain = deployed.plain if isinstance(deployed, Wrapped) else deployed
    assert isinstance(plain, Segmenter)
    if plain.auxiliary is None:  # the student of a teacher is trained without one
        undefended.auxiliary = None
    undefended.load_state_dict(plain.state_dict())
    assert isinstance(deployed, Dynamic) or count(deployed) == count(undefended)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
