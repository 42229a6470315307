"""The smallest network that every defense and attack runs on, to find out how they behave without cost."""

from __future__ import annotations

from torch import Tensor, nn

from model_zoo.base import Features, Segmenter


class ToyTrunk(nn.Module):
    """The smallest trunk that every defense can train."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Features:
        """Return the same features twice."""
        features: Tensor = self.encoder(images)
        return Features(features, features)


def toy_segmenter(num_classes: int = 3) -> Segmenter:
    """Build a network whose passes cost nothing."""
    return Segmenter(
        ToyTrunk(), lambda classes: nn.Conv2d(4, classes, 1), num_classes, auxiliary=nn.Conv2d(4, num_classes, 1)
    )
