"""Small networks and images that the tests of attacks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

VOID = 255
NUM_CLASSES = 4


class Task(NamedTuple):
    model: nn.Module
    images: Tensor
    masks: Tensor


def small_network(num_classes: int = NUM_CLASSES, seed: int = 0) -> nn.Module:
    """Convolutions, batch norm and dropout, so that a wrong mode or moved statistics show."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Dropout2d(0.3),
            nn.Conv2d(12, num_classes, 3, padding=1),
        )
        model(torch.rand(8, 3, 16, 16))
        model[4].weight.data.mul_(4)
    return model


@pytest.fixture
def task() -> Task:
    """A random network in train mode, three images, and masks that are its own predictions with noise and void."""
    generator = torch.Generator().manual_seed(1)
    model = small_network()
    images = torch.rand(3, 3, 32, 32, generator=generator)
    model.eval()
    with torch.no_grad():
        masks = model(images).argmax(1)
    model.train()
    noise = torch.randint(NUM_CLASSES, masks.shape, generator=generator)
    masks = torch.where(torch.rand(masks.shape, generator=generator) < 0.1, noise, masks)
    masks[:, :4] = VOID
    return Task(model, images, masks)


class PixelLinear(nn.Module):
    """Logits of a pixel are a linear function of that pixel's own values: best perturbations are known."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("kchw,nchw->nkhw", self.weight, images) + self.bias


@pytest.fixture
def pixel_linear() -> Callable[..., PixelLinear]:
    """Make a per-pixel linear network: (classes, height, width, seed) -> network."""

    def make(num_classes: int = 2, height: int = 6, width: int = 5, seed: int = 0, noise: float = 0.1) -> PixelLinear:
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(num_classes, 3, height, width, generator=generator)
        # Logits are near zero at half grey, so that small changes suffice and the box of [0, 1] does not bind.
        bias = noise * torch.randn(num_classes, height, width, generator=generator)
        return PixelLinear(weight, bias - 0.5 * weight.sum(1))

    return make


class Trained(NamedTuple):
    model: nn.Module
    images: Tensor
    masks: Tensor
    train_images: Tensor
    train_masks: Tensor


def fit(model: nn.Module, images: Tensor, masks: Tensor, *, iterations: int, rate: float, batch: int) -> nn.Module:
    """Train with AdamW, 30 iterations of warm-up and a falling rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4)
    for i in range(iterations):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (i + 1) / 30) * (1 - i / iterations) ** 0.9
        picked = torch.randperm(len(images))[:batch]
        loss = nn.functional.cross_entropy(model(images[picked]), masks[picked], ignore_index=VOID)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def colours() -> Trained:
    """A small network of segmentation-models-pytorch that tells which of four faint colours a pixel has."""
    import segmentation_models_pytorch as smp

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(156, 3, 8, 8, generator=generator)
    noise = nn.functional.interpolate(noise, (32, 32), mode="bicubic")
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    masks = torch.einsum("kc,nchw->nkhw", corners, noise).argmax(1)
    masks[:, :2, :5] = VOID
    images = (0.5 + 0.05 * noise).clamp(0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(24, 16, 8), classes=4)
        fit(model, images[:144], masks[:144], iterations=120, rate=0.005, batch=8)
    return Trained(model, images[144:], masks[144:], images[:144], masks[:144])


@pytest.fixture(scope="session")
def trained() -> Trained:
    """The small PSPNet of the quickstart, trained on scenes of digits, with 12 scenes that it has not seen."""
    from segbench.model_zoo.pspnet import pspnet

    return _on_digits(lambda classes: pspnet(classes, encoder="tiny", auxiliary=False))


@pytest.fixture(scope="session")
def trained_deeplab() -> Trained:
    """The small DeepLabv3 of the quickstart; see `trained`."""
    from segbench.model_zoo.deeplabv3 import deeplabv3

    return _on_digits(lambda classes: deeplabv3(classes, encoder="tiny", rates=(1, 2, 3), auxiliary=False))


def _on_digits(make: Callable[[int], nn.Module]) -> Trained:
    from segbench.datasets.digits import Digits

    scenes = Digits(train=800, val=12)

    def batch(split: str, count: int) -> tuple[Tensor, Tensor]:
        samples = [scenes.split(split)[i] for i in range(count)]
        images = torch.stack([sample.image for sample in samples]).float() / 255
        return images, torch.stack([sample.mask for sample in samples]).long()

    images, masks = batch("train", 800)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make(len(scenes.classes)).to(memory_format=torch.channels_last)
        fit(model, images, masks, iterations=400, rate=0.01, batch=16)
    return Trained(model, *batch("val", 12), images, masks)
