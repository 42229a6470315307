"""Train a network of your own, attack it, and write a report: `python own_network.py`.

The network is a plain `nn.Module`. It takes images in [0, 1], (N, 3, H, W), and returns logits, (N, C, H, W).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import segbench
from segbench.datasets.digits import Digits

TRAIN_STEPS = 80
BATCH = 8


class Net(nn.Module):
    """Four convolutions, the last three dilated.

    Args:
        num_classes: classes to predict.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=2, dilation=2),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=4, dilation=4),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, num_classes, 3, padding=8, dilation=8),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (N, num_classes, H, W)."""
        logits: Tensor = self.layers(images)
        return logits


def train(network: nn.Module, scenes: Digits) -> None:
    """Train on the scenes of the train split with plain cross-entropy."""
    split = scenes.split("train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for step in range(TRAIN_STEPS):
        batch = [split[(step * BATCH + k) % len(split)] for k in range(BATCH)]
        images = torch.stack([sample.image for sample in batch]) / 255
        masks = torch.stack([sample.mask for sample in batch]).long()
        loss = F.cross_entropy(network(images), masks, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    """Train, evaluate and report."""
    torch.manual_seed(0)
    scenes = Digits(digits=[0, 1], size=32, train=160, val=20)
    network = Net(len(scenes.classes))
    train(network, scenes)

    result = segbench.evaluate(
        network,
        "digits(digits=[0, 1], size=32, train=160, val=20)",
        attacks=["clean", "bim(steps=6)", "segpgd(steps=10)"],
    )
    print(result.table[["model", "attack", "miou", "aacc"]].round(1).to_string(index=False))
    print(f"report: {result.report('report')[0]}")


if __name__ == "__main__":
    main()
