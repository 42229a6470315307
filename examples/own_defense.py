"""Write a defense, train a network with it and one without, and compare them: `python own_defense.py`.

`@defense` tags the class. A defense gives the loss of one batch and the network to deploy; the loop below is the
simplest that can train it. To use the defense in matrix files, name this file there, `plugins: [own_defense.py]` (see
the page "Extend segbench"): `segbench run` then trains it with checkpoints, seeds and a recipe.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

import segbench
from segbench.datasets.digits import Digits
from segbench.defenses.base import Losses, TrainingDefense, defense, segmentation_loss
from segbench.defenses.none import NoDefense
from segbench.model_zoo.base import Segmenter
from segbench.model_zoo.pspnet import pspnet

TRAIN_STEPS = 80
BATCH = 8


@defense("noisy")
class Noisy(nn.Module):
    """Training on images with Gaussian noise.

    Args:
        segmenter: the network to train.
        sigma: standard deviation of the noise, in [0, 1] units.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.
    """

    def __init__(
        self, segmenter: Segmenter, *, sigma: float = 0.1, aux_weight: float = 0.4, ignore_index: int = 255
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.sigma = sigma
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of one batch, after adding noise to it."""
        noise = torch.randn(images.shape, generator=generator).to(images)
        noisy = (images + self.sigma * noise).clamp(0, 1)
        return segmentation_loss(
            self.segmenter, noisy, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def deploy(self) -> Segmenter:
        """Return the network."""
        return self.segmenter


def train(method: TrainingDefense, parameters: list[nn.Parameter], scenes: Digits) -> nn.Module:
    """Train on the scenes of the train split and return the network that the defense deploys."""
    split = scenes.split("train")
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    for step in range(TRAIN_STEPS):
        batch = [split[(step * BATCH + k) % len(split)] for k in range(BATCH)]
        images = torch.stack([sample.image for sample in batch]) / 255
        masks = torch.stack([sample.mask for sample in batch]).long()
        loss = method.loss(images, masks, generator).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return method.deploy()


def main() -> None:
    """Train both networks, attack them, and print one table."""
    scenes = Digits(digits=[0, 1], size=32, train=160, val=20)
    tables = []
    for name, method in (("none", NoDefense), ("noisy", Noisy)):
        torch.manual_seed(0)
        module = method(pspnet(len(scenes.classes), encoder="tiny"))
        network = train(module, list(module.parameters()), scenes)
        result = segbench.evaluate(
            network,
            "digits(digits=[0, 1], size=32, train=160, val=20)",
            attacks=["clean", "bim(steps=6)", "segpgd(steps=10)"],
            name="pspnet",
            defense=name,
        )
        tables.append(result.table)
    print(pd.concat(tables)[["model", "defense", "attack", "miou"]].round(1).to_string(index=False))


if __name__ == "__main__":
    main()
