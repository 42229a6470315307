"""Defenses keep what they claim of trained networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.bim import bim
from segbench.components import catalog
from segbench.datasets.digits import Digits
from segbench.defenses.tools.transforms import Transformed
from segbench.model_zoo.pspnet import pspnet


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


def fit(defense: nn.Module, iterations: int) -> None:
    defense.train()
    optimizer = torch.optim.AdamW(defense.parameters(), lr=5e-3)
    torch.manual_seed(0)
    for step in range(iterations):
        optimizer.zero_grad()
        defense.loss(*scenes(8, seed=step), torch.Generator().manual_seed(step)).total.backward()
        optimizer.step()


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
