"""Every defense trains networks with a convolutional stem, a vision transformer, or no auxiliary classifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segbench.components import catalog
from segbench.defenses.base import Prepared

NETWORKS = {
    "upernet": {"encoder": "test_convnext-cvst", "channels": 16},
    "segmenter": {"encoder": "tu-test_vit", "patch_size": 8, "size": 32},
    "segformer": {"encoder": "tu-test_convnext", "channels": 16},
}


@pytest.mark.parametrize(
    "model", ["upernet", *(pytest.param(m, marks=pytest.mark.slow) for m in NETWORKS if m != "upernet")]
)
@pytest.mark.parametrize("name", catalog.components("defense"))
def test_it_gives_a_loss_with_gradients_and_deploys_a_network(name: str, model: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    segmenter = catalog.find("model", model).object(3, **NETWORKS[model])
    options = {}
    if name == "pir-at":
        torch.save(segmenter.trunk.encoder.state_dict(), tmp_path / "robust.pt")
        options["backbone"] = str(tmp_path / "robust.pt")
    defense = catalog.find("defense", name).object(segmenter, **options)
    if isinstance(defense, Prepared):
        defense.prepare()
    images, masks = torch.rand(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))
    total = defense.train().loss(images, masks, torch.Generator().manual_seed(0)).total
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in segmenter.trunk.parameters())
    with torch.no_grad():
        assert defense.deploy().eval()(images).shape == (2, 3, 32, 32)
