from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn


class Context(nn.Module):
    """A small network that sees its surroundings: 3x3 convolutions, so that crops and mirrors matter."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, num_classes, 3, padding=1))
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return 8 * logits


class Pixelwise(nn.Module):
    """A network that sees one pixel at a time: how an image is cut changes nothing."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 8 * self.layer(images)
        return logits


@pytest.fixture
def context() -> nn.Module:
    torch.manual_seed(0)
    return Context().eval()


@pytest.fixture
def pixelwise() -> nn.Module:
    torch.manual_seed(0)
    return Pixelwise().eval()
