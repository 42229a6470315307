"""Every defense trains on every architecture family, and exports what it claims."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from attacks.bim import bim
from defenses.base import LearnsFromVideo, Prepared, Wrapped
from defenses.transforms import Transformed
from model_zoo.base import Segmenter
from model_zoo.deeplabv3 import deeplabv3
from model_zoo.pspnet import pspnet
from model_zoo.smp import smp
from segbench import catalog
from segbench.datasets.digits import Digits

FAMILIES: dict[str, Callable[[], Segmenter]] = {
    "pspnet": lambda: pspnet(3, encoder="tiny"),
    "deeplabv3": lambda: deeplabv3(3, encoder="tiny", rates=(1, 2, 3)),
    "unet": lambda: smp(3, architecture="unet", encoder="resnet18"),
    "segformer": lambda: smp(3, architecture="segformer", encoder="mit_b0"),
}


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures, 32x32, of two squares told apart by a tint weaker than the attack and by the direction of stripes."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 32, 32, dtype=torch.long)
    for mask in masks:
        for label in (1, 2):
            top, left = torch.randint(0, 18, (2,), generator=generator).tolist()
            mask[top : top + 14, left : left + 14] = label
    tint = torch.tensor([[0, 0, 0], [0.02, -0.02, 0], [-0.02, 0.02, 0]])[masks].permute(0, 3, 1, 2)
    wave = 0.12 * torch.sin(torch.arange(32) * 2.1)
    stripes = torch.stack([torch.zeros(32, 32), wave.expand(32, 32), wave.expand(32, 32).T])
    pattern = stripes[masks, torch.arange(32)[:, None], torch.arange(32)].unsqueeze(1)
    noise = 0.01 * torch.randn(count, 3, 32, 32, generator=generator)
    return 0.5 + tint + pattern + noise, masks


def accuracy(network: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Share of the squares' pixels that are right."""
    with torch.no_grad():
        return (network(images).argmax(1) == masks)[masks > 0].float().mean().item()


def fit(defense: nn.Module, iterations: int, count: int = 8) -> list[float]:
    defense.train()
    optimizer = torch.optim.AdamW(defense.parameters(), lr=5e-3)
    torch.manual_seed(0)
    totals = []
    for step in range(iterations):
        optimizer.zero_grad()
        total = defense.loss(*scenes(count, seed=step), torch.Generator().manual_seed(step)).total
        if isinstance(defense, LearnsFromVideo):
            frames = scenes(12, seed=step)[0].view(4, 3, 3, 32, 32)
            intrinsics = torch.tensor([[32.0, 0, 15.5], [0, 32.0, 15.5], [0, 0, 1]]).repeat(4, 1, 1)
            total = total + defense.video_loss(frames, intrinsics, torch.Generator()).total
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", list(catalog.components("defense")))
def test_defense_trains_and_exports_on_every_family(name: str, family: str, tmp_path) -> None:
    options = {}
    if name == "pir-at":
        torch.manual_seed(1)
        torch.save(FAMILIES[family]().trunk.encoder.state_dict(), tmp_path / "robust.pth")
        options["backbone"] = str(tmp_path / "robust.pth")
    torch.manual_seed(0)
    defense = catalog.find("defense", name).object(FAMILIES[family](), **options)
    if isinstance(defense, Prepared):
        defense.prepare()
    totals = fit(defense, 3, count=4)
    assert all(torch.isfinite(torch.tensor(totals)))
    deployed = defense.deploy().eval()
    assert deployed(scenes(2, 0)[0]).shape == (2, 3, 32, 32)
    plain = deployed.plain if isinstance(deployed, Wrapped) else deployed
    assert isinstance(plain, Segmenter)
    undefended = FAMILIES[family]()
    if plain.auxiliary is None:  # the student of a teacher is trained without one
        undefended.auxiliary = None
    undefended.load_state_dict(plain.state_dict())


@pytest.fixture(scope="module")
def undefended() -> nn.Module:
    torch.manual_seed(0)
    defense = catalog.find("defense", "none").object(pspnet(3, encoder="tiny"))
    fit(defense, 120)
    return defense.deploy().eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sat", "pgd-at", "segpgd-at", "trades", "free-at", "fast-at", "ddcat"])
def test_adversarial_training_holds_better_than_none(name: str, undefended: nn.Module) -> None:
    torch.manual_seed(0)
    options = {"beta": 1.0} if name == "trades" else {}  # at 6 it needs more iterations to get off the ground
    defense = catalog.find("defense", name).object(pspnet(3, encoder="tiny"), **options)
    fit(defense, 120)
    images, masks = scenes(40, seed=10_000)
    clean, robust = [], []
    for network in (undefended, defense.deploy().eval()):
        attacked = bim(network, images, masks, eps=0.03, alpha=0.01, steps=10)
        clean.append(accuracy(network, images, masks))
        robust.append(accuracy(network, attacked, masks))
    assert clean[1] > clean[0] - 0.1
    assert robust[1] > robust[0] + 0.1


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """An undefended network trained on the digits, and images and masks to judge it by."""
    dataset = Digits()

    def read(split: str, count: int) -> tuple[Tensor, Tensor]:
        samples = [dataset.split(split)[index] for index in range(count)]
        images = torch.stack([sample.image for sample in samples]).float() / 255
        return images, torch.stack([sample.mask for sample in samples]).long()

    torch.manual_seed(0)
    defense = catalog.find("defense", "none").object(pspnet(len(dataset.classes), encoder="tiny")).train()
    optimizer = torch.optim.AdamW(defense.parameters(), lr=5e-3)
    images, masks = read("train", 500)
    for step in range(250):
        chosen = torch.randint(0, len(images), (16,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        defense.loss(images[chosen], masks[chosen], torch.Generator()).total.backward()
        optimizer.step()
    images, masks = read("dev", 40)
    return defense.deploy().eval(), images, torch.where(masks == 255, 0, masks)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jpeg", "median"])
def test_an_attacker_who_knows_the_transformation_does_more_harm(name: str, digits) -> None:
    """Than one who does not, and than one who takes the transformation for the identity."""
    plain, images, masks = digits
    defense = catalog.find("defense", name).object(plain)
    network = defense.deploy()
    sources = {"oblivious": plain, "straight": Transformed(plain, defense.transform), "adaptive": network}
    kept = {
        knows: accuracy(network, bim(source, images, masks, eps=0.03, steps=10), masks)
        for knows, source in sources.items()
    }
    assert kept["adaptive"] < kept["straight"] - 0.03 < kept["oblivious"] - 0.06
