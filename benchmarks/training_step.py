"""One training step beside a plain one and beside the authors' loop: `python benchmarks/training_step.py`.

The loop is written from what is published of it: SAT crafts adversarial images of the whole batch and trains on half of
them; DDC-AT evaluates all its heads in every pass of its attack; the attack's passes make the gradients of the
parameters too, and a second forward pass follows each of its steps. Prints a line of JSON for each defense: processor
seconds, the least of several interleaved rounds, and the ratios.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import interleaved
from torch import Tensor, nn

from segbench.components import specs
from segbench.defenses.base import auxiliary_loss
from segbench.defenses.ddcat import DivideAndConquer
from segbench.model_zoo.base import Segmenter

CLASSES, VOID, AUX_WEIGHT = 21, 255, 0.4
EPS, ALPHA, STEPS = 0.03, 0.01, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pspnet(encoder=resnet50)")
    parser.add_argument("--size", type=int, default=89)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    images = torch.rand(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    masks = torch.randint(CLASSES, images[:, 0].shape)
    trained = {name: made(options.model, name) for name in ("none", "sat", "ddcat")}

    def ours(name: str) -> Callable[[], None]:
        return lambda: step(trained[name], lambda: trained[name].loss(images, masks, torch.Generator()).total)

    three = trained["ddcat"]
    assert isinstance(three, DivideAndConquer)
    segmenter = trained["none"].segmenter
    assert isinstance(segmenter, Segmenter)
    works = {
        "none": ours("none"),
        "plain step": lambda: step(segmenter, lambda: plain_loss(segmenter, images, masks)),
        "sat": ours("sat"),
        "sat, published loop": lambda: step(segmenter, lambda: published_sat(segmenter, images, masks)),
        "ddcat": ours("ddcat"),
        "ddcat, published loop": lambda: step(three, lambda: published_ddcat(three, images, masks)),
    }
    seconds = interleaved(works, options.rounds)
    about = {"model": options.model, "size": options.size, "batch": options.batch}
    for name in trained:
        loop = seconds["plain step" if name == "none" else f"{name}, published loop"]
        found = {"seconds": round(seconds[name], 2), "of a plain step": round(seconds[name] / seconds["plain step"], 2)}
        print(json.dumps({"defense": name, **about, **found, "of the published loop": round(seconds[name] / loop, 2)}))


def made(model: str, defense: str) -> nn.Module:
    """Build a defense's training network."""
    segmenter = specs.bound("model", model).make(num_classes=CLASSES)
    built: nn.Module = specs.bound("defense", defense).make(
        segmenter=segmenter, aux_weight=AUX_WEIGHT, ignore_index=VOID
    )
    return built.to(memory_format=torch.channels_last).train()


def step(network: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Take the gradient of a training loss."""
    network.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]


def plain_loss(segmenter: Segmenter, images: Tensor, masks: Tensor) -> Tensor:
    """Return the cross-entropy of a network and of its auxiliary classifier."""
    features = segmenter.features(images)
    loss = entropy(segmenter.classify(segmenter.classifier, features.main, images), masks)
    return loss + AUX_WEIGHT * auxiliary_loss(segmenter, features.auxiliary, images, masks, VOID)


def entropy(logits: Tensor, masks: Tensor) -> Tensor:
    return F.cross_entropy(logits, masks, ignore_index=VOID)


def published_attack(network: nn.Module, logits: Callable[[Tensor], Tensor], images: Tensor, masks: Tensor) -> Tensor:
    """Craft adversarial images: gradients of all parameters are made, and every step looks at its result again."""
    network.eval()
    adversarial = images.clone()
    for _ in range(STEPS):
        adversarial.requires_grad_()
        network.zero_grad()
        entropy(logits(adversarial), masks).backward()  # type: ignore[no-untyped-call]
        assert adversarial.grad is not None
        moved = adversarial.detach() + ALPHA * adversarial.grad.sign()
        adversarial = torch.max(torch.min(moved, images + EPS), images - EPS).clamp(0, 1)
        with torch.no_grad():
            logits(adversarial)
    network.train()
    return adversarial


def published_sat(segmenter: Segmenter, images: Tensor, masks: Tensor) -> Tensor:
    """Return the loss of SAT: all images are attacked, the second half is used."""
    half = len(images) // 2
    adversarial = published_attack(segmenter, segmenter, images, masks)
    return plain_loss(segmenter, torch.cat([images[:half], adversarial[half:]]), masks)


def published_ddcat(three: DivideAndConquer, images: Tensor, masks: Tensor) -> Tensor:
    """Return the loss of DDC-AT: all images are attacked, and every pass evaluates all three heads."""
    half = len(images) // 2

    def main_branch(moved: Tensor) -> Tensor:
        return three.branches(moved, three.segmenter.features(moved).main).main

    adversarial = published_attack(three, main_branch, images, masks)
    labels = torch.zeros_like(masks)
    labels[:half] = (three.predict(images[:half]) != three.predict(adversarial[:half])).long()
    mixed = torch.cat([images[:half], adversarial[half:]])
    features = three.segmenter.features(mixed)
    branches = three.branches(mixed, features.main)
    auxiliary = auxiliary_loss(three.segmenter, features.auxiliary, mixed, masks, VOID)
    return entropy(branches.merged(), masks) + F.cross_entropy(branches.mask, labels) + AUX_WEIGHT * auxiliary


if __name__ == "__main__":
    main()
