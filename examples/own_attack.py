"""Write an attack, compare it with a built-in one, and check its budget: `python own_attack.py`.

`@attack` tags the function. `segbench.predict` then runs it as it runs a built-in attack: under a guard that leaves the
network as it was, and with a check of the budget in float64. To use the attack in matrix files too, name this file
there: `plugins: [own_attack.py]` (see the page "Extend segbench").
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import segbench
from segbench.attacks.base import BoundAttack, attack
from segbench.attacks.tools.losses import cross_entropy, input_gradient
from segbench.attacks.tools.projections import project, step
from segbench.datasets.digits import Digits
from segbench.model_zoo.pspnet import pspnet

TRAIN_STEPS = 80
BATCH = 8


@attack("two-step")
def two_step(model: nn.Module, images: Tensor, masks: Tensor, *, eps: float = 0.03, ignore_index: int = 255) -> Tensor:
    """Two steps of size eps / 2 up the cross-entropy.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the L_inf ball, in [0, 1] units.
        ignore_index: label of void pixels.
    """
    loss = partial(cross_entropy, ignore_index=ignore_index)
    adversarial = images
    for _ in range(2):
        gradient, _, _ = input_gradient(model, adversarial, masks, loss, ignore_index=ignore_index)
        adversarial = project(adversarial + step(gradient, "linf", eps / 2), images, "linf", eps)
    return adversarial


def trained(scenes: Digits) -> nn.Module:
    """Return a small network, trained on the scenes of the train split."""
    network, split = pspnet(len(scenes.classes), encoder="tiny"), scenes.split("train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for iteration in range(TRAIN_STEPS):
        batch = [split[(iteration * BATCH + k) % len(split)] for k in range(BATCH)]
        images = torch.stack([sample.image for sample in batch]) / 255
        masks = torch.stack([sample.mask for sample in batch]).long()
        loss = F.cross_entropy(network(images), masks, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def accuracy(network: nn.Module, scenes: Digits, attack: str | BoundAttack | None) -> float:
    """Return the share of valid pixels that the network labels right, in per cent."""
    right = valid = 0
    for sample in scenes.split("val"):
        masks = sample.mask.long()
        preds = segbench.predict(network, sample.image, masks=masks, attack=attack)
        right += int(((preds == masks) & (masks != 255)).sum())
        valid += int((masks != 255).sum())
    return 100 * right / valid


def main() -> None:
    """Train a network and print what each attack leaves of its accuracy."""
    torch.manual_seed(0)
    scenes = Digits(digits=[0, 1], size=32, train=160, val=20)
    network = trained(scenes)
    for name, made in (("clean", None), ("fgsm", "fgsm(eps=8/255)"), ("two-step", two_step.bind(eps=8 / 255))):
        print(f"{name:10} {accuracy(network, scenes, made):5.1f} % of pixels right")


if __name__ == "__main__":
    main()
