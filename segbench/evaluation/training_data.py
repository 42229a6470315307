"""What some attacks take from the training data: the pixels of each class, or a fitted perturbation."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.attacks.tools.passes import Passes, count_passes
from segbench.datasets.base import Dataset, Split
from segbench.evaluation.batching import TrainingBatches
from segbench.protocols.base import EvaluationProtocol


def training_context(
    attack: BoundAttack,
    network: nn.Module,
    dataset: Dataset,
    split: str,
    protocol: EvaluationProtocol,
    batch: int,
    device: torch.device,
) -> tuple[dict[str, Any], Passes]:
    """Return those arguments of an attack that come from the training data, and what they cost.

    Args:
        attack: the attack.
        network: the network that is attacked.
        dataset: the dataset.
        split: name of its training split, which is opened only where an attack needs it.
        protocol: cuts its images as those that are attacked.
        batch: images or crops in a batch.
        device: where the network is.
    """
    context: dict[str, Any] = {}
    if "class_pixels" in inspect.signature(attack.attack.function).parameters:
        context["class_pixels"] = _class_pixels(dataset.split(split), len(dataset.classes)).to(device)
    with count_passes(network) as passes:
        if attack.attack.fit is not None:
            batches = TrainingBatches(dataset.split(split), protocol, batch, device)
            context["perturbation"] = attack.fit(network, batches, ignore_index=dataset.ignore_index)
    return context, passes


def _class_pixels(split: Split, num_classes: int) -> Tensor:
    """Count the pixels of each class in the masks of a split, (C,)."""
    pixels = torch.zeros(num_classes, dtype=torch.int64)
    for index in range(len(split)):
        pixels += torch.bincount(split[index].mask.flatten().long(), minlength=256)[:num_classes]
    return pixels
