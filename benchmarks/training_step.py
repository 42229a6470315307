"""One training step beside a plain one and beside the authors' loop: `python benchmarks/training_step.py`.

The loop is written from what the published one does: it crafts adversarial images of the whole batch and uses half of
SAT's; every pass of the attack evaluates all classifiers, and every backward pass goes through all of them and makes
the gradients of all parameters, as the losses of the others are added with the factor 0; DDC-AT looks at the images of
each step a second time; and the images that were made are looked at once more. Prints a line of JSON for each defense:
processor seconds, the least of several interleaved rounds, and the ratios.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import NamedTuple

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
        "plain step": lambda: step(segmenter, lambda: plain_pass(segmenter, images, masks).loss),
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


class Pass(NamedTuple):
    """What one pass of the published loop evaluates: logits of the main branch, the training loss, and label maps."""

    logits: Tensor
    loss: Tensor
    labels: Tensor


def plain_pass(segmenter: Segmenter, images: Tensor, masks: Tensor) -> Pass:
    """Evaluate a network and its auxiliary classifier."""
    features = segmenter.features(images)
    logits = segmenter.classify(segmenter.classifier, features.main, images)
    auxiliary = auxiliary_loss(segmenter, features.auxiliary, images, masks, VOID)
    return Pass(logits, entropy(logits, masks) + AUX_WEIGHT * auxiliary, logits.detach().argmax(1))


def divided_pass(three: DivideAndConquer, images: Tensor, masks: Tensor, mask_labels: Tensor) -> Pass:
    """Evaluate all three branches of DDC-AT and the auxiliary classifier."""
    features = three.segmenter.features(images)
    branches = three.branches(images, features.main)
    merged = branches.merged()
    auxiliary = auxiliary_loss(three.segmenter, features.auxiliary, images, masks, VOID)
    loss = entropy(merged, masks) + F.cross_entropy(branches.mask, mask_labels) + AUX_WEIGHT * auxiliary
    return Pass(branches.main, loss, merged.detach().argmax(1))


def entropy(logits: Tensor, masks: Tensor) -> Tensor:
    return F.cross_entropy(logits, masks, ignore_index=VOID)


def crafted(network: nn.Module, evaluated: Callable[[Tensor], Pass], images: Tensor, masks: Tensor) -> Tensor:
    """Take the steps of BIM in eval mode."""
    adversarial = images.clone()
    for _ in range(STEPS):
        adversarial.requires_grad_()
        network.zero_grad()
        found = evaluated(adversarial)
        (entropy(found.logits, masks) + 0 * found.loss).backward()  # type: ignore[no-untyped-call]
        assert adversarial.grad is not None
        moved = adversarial.detach() + ALPHA * adversarial.grad.sign()
        adversarial = torch.max(torch.min(moved, images + EPS), images - EPS).clamp(0, 1)
    return adversarial


def published_sat(segmenter: Segmenter, images: Tensor, masks: Tensor) -> Tensor:
    """Return the loss of SAT: all images are attacked, the second half is used."""
    half = len(images) // 2
    segmenter.eval()
    adversarial = crafted(segmenter, lambda moved: plain_pass(segmenter, moved, masks), images, masks)
    plain_pass(segmenter, adversarial, masks)
    segmenter.train()
    return plain_pass(segmenter, torch.cat([images[:half], adversarial[half:]]), masks).loss


def published_ddcat(three: DivideAndConquer, images: Tensor, masks: Tensor) -> Tensor:
    """Return the loss of DDC-AT: all images are attacked, and those before each step are looked at again."""
    half, nowhere = len(images) // 2, torch.zeros_like(masks)
    looks = []

    def twice(moved: Tensor) -> Pass:
        found = divided_pass(three, moved, masks, nowhere)
        looks.append(divided_pass(three, moved, masks, nowhere).labels)
        return found

    three.eval()
    adversarial = crafted(three, twice, images, masks)
    flipped = looks[0] != divided_pass(three, adversarial, masks, nowhere).labels
    three.train()
    mask_labels = torch.cat([flipped[:half].long(), nowhere[half:]])
    return divided_pass(three, torch.cat([images[:half], adversarial[half:]]), masks, mask_labels).loss


if __name__ == "__main__":
    main()
