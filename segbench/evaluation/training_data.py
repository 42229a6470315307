"""What some attacks take from the training data: the pixels of each class, or a fitted perturbation."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from segbench.attacks.base import Batches, BoundAttack
from segbench.attacks.tools.losses import counted_classes
from segbench.attacks.tools.passes import Passes, count_passes
from segbench.datasets.base import Dataset, Split
from segbench.errors import CellError, describe
from segbench.evaluation.batch_size import on_processor
from segbench.evaluation.batching import TrainingBatches
from segbench.memory import out_of_memory, release
from segbench.protocols.base import EvaluationProtocol
from segbench.protocols.void import scored_split

FITTED = 25
"""Images or crops of a batch on which a perturbation is fitted: the perturbation depends on it, so that it is fixed."""


class Piecewise(nn.Module):
    """A network that takes a batch in pieces, and computes what a gradient needs again: less memory, the same answers.

    Args:
        model: images -> logits.
        most: images of a piece; fewer on a processor, where they are not to have more than an evaluation takes.
    """

    def __init__(self, model: nn.Module, most: int) -> None:
        super().__init__()
        self.model, self.most = model, most

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, H, W)."""
        most = self.most if images.is_cuda else min(self.most, on_processor(images))
        if len(images) <= most:
            logits: Tensor = self.model(images)
            return logits
        pieces = torch.split(images, most)
        return torch.cat([checkpoint(self.model, piece, use_reentrant=False) for piece in pieces])


def training_context(
    attack: BoundAttack,
    network: nn.Module,
    dataset: Dataset,
    split: str,
    protocol: EvaluationProtocol,
    device: torch.device,
    *,
    scored: str,
    one_by_one: bool = False,
) -> tuple[dict[str, Any], Passes]:
    """Return those arguments of an attack that come from the training data, and what they cost.

    Args:
        attack: the attack.
        network: the network that is attacked.
        dataset: the dataset.
        split: name of its training split, which is opened only where an attack needs it.
        protocol: cuts its images as those that are attacked.
        device: where the network is.
        scored: name of the split that is scored: classes are counted in it where the dataset has no training split.
        one_by_one: batches of one image, for a network that changes with the images that it sees.
    """
    context: dict[str, Any] = {}
    if "class_pixels" in inspect.signature(attack.attack.function).parameters:
        counted = split if split in dataset.splits else scored
        context["class_pixels"] = _class_pixels(dataset.split(counted), len(dataset.classes)).to(device)
    if attack.attack.fit is None:
        return context, Passes()
    batches = TrainingBatches(scored_split(dataset, split, protocol), protocol, 1 if one_by_one else FITTED, device)
    most = 1 if one_by_one else FITTED
    context["perturbation"], passes = _fitted(attack, network, batches, most, device, dataset.ignore_index)
    return context, passes


def _fitted(
    attack: BoundAttack, network: nn.Module, batches: Batches, most: int, device: torch.device, ignore_index: int
) -> tuple[Tensor, Passes]:
    """Fit a perturbation on batches of at most so many images, and return it with the passes that it took.

    Raises:
        CellError: one image alone takes more memory than there is.
    """
    while True:
        seen = Piecewise(network, most)
        try:
            with count_passes(seen) as passes:
                return attack.fit(seen, batches, ignore_index=ignore_index), passes
        except Exception as error:
            if not out_of_memory(error):
                raise
            if most == 1:
                raise CellError(
                    f"{attack.attack.name}: to fit on one training image takes more memory than {device} has "
                    f"({describe(error)[:200]}); use a protocol that cuts images, such as ddcat-crop-v1"
                ) from error
            reason = error
        release(reason, device)
        most //= 2


def context_of_call(
    attack: BoundAttack,
    network: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    class_pixels: Tensor | None,
    perturbation: Tensor | None,
    batch: int,
    ignore_index: int,
) -> dict[str, Any]:
    """Return what an attack takes from training data where there may be none; what is missing comes from the images.

    A warning names what was missing.

    Args:
        attack: the attack.
        network: the network that is attacked.
        images: all images of the call, (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        class_pixels: (C,) number of training pixels of each class, or None.
        perturbation: (3, H, W), the result of `attack.fit` on training batches, or None.
        batch: images of a step when a perturbation is fitted.
        ignore_index: label of void pixels.

    Raises:
        ValueError: there are not as many numbers as classes, or the attack takes no perturbation.
    """
    name = attack.attack.name
    if class_pixels is not None:
        highest = int(masks.masked_fill(masks == ignore_index, 0).max())
        if class_pixels.ndim != 1 or len(class_pixels) <= highest:
            raise ValueError(
                f"class_pixels is one number for each class, got {tuple(class_pixels.shape)} for labels up to {highest}"
            )
    if perturbation is not None and attack.attack.fit is None:
        raise ValueError(f"{name} takes no perturbation; universal and universal-patch do")
    if attack.attack.fit is None:
        if attack.needs_training_data and class_pixels is None:
            class_pixels = counted_classes(masks, name, ignore_index=ignore_index)
    elif perturbation is None:
        warnings.warn(
            f"{name}: the perturbation, which is fitted on training images, is not given; it is fitted on the images "
            "of this call instead, so that it is stronger on them than on others",
            stacklevel=3,
        )
        firsts = range(0, len(images), batch)
        batches = [(images[first : first + batch], masks[first : first + batch]) for first in firsts]
        perturbation, _ = _fitted(attack, network, batches, batch, images.device, ignore_index)
    return {"class_pixels": class_pixels, "perturbation": perturbation}


def _class_pixels(split: Split, num_classes: int) -> Tensor:
    """Count the pixels of each class in the masks of a split, (C,)."""
    pixels = torch.zeros(num_classes, dtype=torch.int64)
    for index in range(len(split)):
        pixels += torch.bincount(split[index].mask.flatten().long(), minlength=256)[:num_classes]
    return pixels
