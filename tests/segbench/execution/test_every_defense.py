"""Every defense trains one epoch on every architecture family, resumes bit for bit, and exports a plain network."""

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


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", list(catalog.components("defense")))
def test_defense_trains_resumes_and_exports(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, name: str, family: str
) -> None:
    model = FAMILIES[family]
    undefended: Segmenter = specs.bound("model", model).make(num_classes=3)
    options = {}
    if name == "pir-at":
        save_file(undefended.trunk.encoder.state_dict(), tmp_path / "robust.safetensors")
        options["backbone"] = str(tmp_path / "robust.safetensors")
    plan = tiny_plan(dataset=DATA, models=[model], defenses=[{"name": name, **options}], transfer=None, recipe=RECIPE)
    (cell,) = plan.trainings
    whole, parts = Store(tmp_path / "whole"), Store(tmp_path / "parts")

    def run(store: Store, reporter: Any) -> None:
        run_training(cell, store, Runtime(checkpoint_every=1e9), CPU, reporter)

    run(whole, silent())
    with pytest.raises(Stopped):
        run(parts, silent(stop_at=1))
    run(parts, silent())
    assert whole.weights(cell.digest).read_bytes() == parts.weights(cell.digest).read_bytes()
    history = pd.read_csv(whole.train_dir(cell.digest) / "history.csv")
    assert history["iteration"].tolist() == [2]
    assert history["loss"].notna().all()

    dataset = cell.data.open()
    deployed = load_network(cell, whole, CPU, len(dataset.classes), dataset.ignore_index)
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
