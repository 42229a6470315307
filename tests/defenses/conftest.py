"""Small networks, batches and an attack that can be followed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack, attack
from segbench.model_zoo.base import Features, Segmenter, rebuildable

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


@rebuildable
def small_segmenter() -> Segmenter:
    return Segmenter(SmallTrunk(), small_classifier, NUM_CLASSES, auxiliary=nn.Conv2d(6, NUM_CLASSES, 1), divisor=2)


@pytest.fixture
def make_segmenter() -> Callable[..., Segmenter]:
    """A convolutional network with batch normalisation, dropout and an auxiliary classifier."""

    def make(seed: int = 0) -> Segmenter:
        torch.manual_seed(seed)
        return small_segmenter()

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


class Clip(NamedTuple):
    """Clips of still planes before a camera whose motion is known.

    Attributes:
        frames: (N, 3, 3, H, W): before, the frame itself, after.
        depth: of the frame itself, (N, 1, H, W).
        transforms: camera of the frame itself -> cameras before and after, (N, 4, 4) each.
        intrinsics: (N, 3, 3).
    """

    frames: Tensor
    depth: Tensor
    transforms: list[Tensor]
    intrinsics: Tensor


@pytest.fixture
def film() -> Callable[..., Clip]:
    """Render a near reddish plane of random place and depth before a far bluish one, seen from a moving camera."""

    def make(count: int, seed: int = 0, size: tuple[int, int] = (32, 48)) -> Clip:
        generator = torch.Generator().manual_seed(seed)

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(count, 1, 1, generator=generator) * (high - low) + low

        height, width = size
        focal = 40.0
        intrinsics = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        slope_x = (columns - intrinsics[0, 2]) / focal
        slope_y = (rows - intrinsics[1, 2]) / focal
        near, far = uniform(1.2, 1.8), uniform(4, 6)
        left, top = uniform(-0.6, 0.1), uniform(-0.5, 0.0)
        frequencies = [torch.rand(count, 2, 1, 1, generator=generator) * 4 + 6 for _ in range(2)]

        def texture(across: Tensor, down: Tensor, frequency: Tensor, colour: tuple[float, float, float]) -> Tensor:
            wave = torch.sin(frequency[:, 0] * across) * torch.cos(frequency[:, 1] * down) * 0.25
            return torch.stack([(wave + value).clamp(0, 1) for value in colour], 1)

        def view(position: float) -> tuple[Tensor, Tensor]:
            """The picture from a camera moved to the right, and its depth."""
            across, down = slope_x * near + position, slope_y * near
            hit = (across > left) & (across < left + 0.7) & (down > top) & (down < top + 0.6)
            front = texture(across, down, frequencies[0], (0.7, 0.4, 0.3))
            behind = texture(slope_x * far + position, slope_y * far, frequencies[1] / 3, (0.3, 0.4, 0.7))
            return torch.where(hit[:, None], front, behind), torch.where(hit, near, far)[:, None]

        step = 0.15
        frames = torch.stack([view(position)[0] for position in (-step, 0.0, step)], 1)
        transforms = [torch.eye(4).repeat(count, 1, 1) for _ in range(2)]
        unit = 0.1  # of length: puts the scene where an untrained depth head looks
        transforms[0][:, 0, 3], transforms[1][:, 0, 3] = unit * step, -unit * step
        return Clip(frames, unit * view(0.0)[1], transforms, intrinsics.repeat(count, 1, 1))

    return make
