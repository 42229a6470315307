"""Small networks, batches and an attack that can be followed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from attacks.base import BoundAttack, attack
from model_zoo.base import Features, Segmenter

NUM_CLASSES = 3


class SmallTrunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images: Tensor) -> Features:
        earlier = self.encoder(images)
        return Features(self.last(earlier), earlier)


def small_classifier(num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.1), nn.Conv2d(8, num_classes, 1)
    )


@pytest.fixture
def make_segmenter() -> Callable[..., Segmenter]:
    """A convolutional network with batch normalisation, dropout and an auxiliary classifier."""

    def make(seed: int = 0) -> Segmenter:
        torch.manual_seed(seed)
        return Segmenter(SmallTrunk(), small_classifier, NUM_CLASSES, auxiliary=nn.Conv2d(6, NUM_CLASSES, 1), divisor=2)

    return make


@pytest.fixture
def segmenter(make_segmenter: Callable[..., Segmenter]) -> Segmenter:
    return make_segmenter()


class Identity(nn.Module):
    def forward(self, images: Tensor) -> Features:
        return Features(images, None)


@pytest.fixture
def pixel_segmenter() -> Segmenter:
    """A network of one 1x1 convolution on the raw colours: every pixel by itself, two classes."""
    torch.manual_seed(0)
    return Segmenter(Identity(), lambda count: nn.Conv2d(3, count, 1), 2, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Images (4, 3, 12, 14) and masks with some void."""
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(4, 3, 12, 14, generator=generator)
    masks = torch.randint(0, NUM_CLASSES, (4, 12, 14), generator=generator)
    masks[:, :2] = 255
    return images, masks


@dataclass
class Spy:
    """An attack that adds eps to every value, and notes how it was called."""

    bound: BoundAttack
    eps: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    models: list[nn.Module] = field(default_factory=list)
    training: list[bool] = field(default_factory=list)


@pytest.fixture
def spy() -> Spy:
    @attack("brighten")
    def brighten(
        model: nn.Module, images: Tensor, masks: Tensor, *, eps: float = 0.1, ignore_index: int = 255
    ) -> Tensor:
        seen.eps.append(eps)
        seen.counts.append(len(images))
        seen.models.append(model)
        seen.training.append(any(module.training for module in model.modules()))
        return (images + eps).clamp(0, 1)

    seen = Spy(brighten.bind())
    return seen
