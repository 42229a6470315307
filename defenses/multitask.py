"""Multitask training: auxiliary tasks on a shared trunk."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.attacks.clean import clean
from segbench.defenses.base import Losses, attacked, auxiliary_loss, cross_entropy, defense
from segbench.model_zoo.base import Segmenter

Task = Literal["reconstruction", "edges", "depth"]

CHANNELS: dict[Task, int] = {"reconstruction": 3, "edges": 2, "depth": 1}
"""Output channels of each task's head."""

UNATTACKED = clean.bind()
"""The published default: training on clean images."""


@defense("multitask")
class Multitask(nn.Module):
    """Multitask training: the trunk also learns to reconstruct the image and to detect edges between segments.

    Published: a shared encoder with one head per auxiliary task; the loss main + weight / number of tasks * sum of the
    tasks' losses; training on clean images, with adversarial training as an extension; no heads at inference.

    Our reconstruction: the choice of tasks (the paper uses depth, normals, edges and others from Taskonomy and
    Cityscapes; the default here needs no extra labels), the heads (one classifier of the architecture per task), the
    losses (L1 for the image and for inverse depth, cross-entropy for edges) and the weight.

    Args:
        segmenter: the network to train.
        tasks: "reconstruction" of the image, "edges" between segments, "depth" of the scene if the dataset has it.
        weight: total weight of the auxiliary tasks.
        attack: the attack used in training, on every image, with the main classifier's loss; `clean` means no attack.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: `tasks` is empty.

    Source: Mao et al. 2020, section 4, https://arxiv.org/abs/2007.07236.
    Departs from it in: see above.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        tasks: tuple[Task, ...] = ("reconstruction", "edges"),
        weight: float = 0.1,
        attack: BoundAttack = UNATTACKED,
        aux_weight: float = 0.4,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        if not tasks:
            raise ValueError(f"multitask: tasks must contain at least one of {', '.join(CHANNELS)}")
        self.segmenter = segmenter
        self.heads = nn.ModuleDict({task: segmenter.make_classifier(CHANNELS[task]) for task in tasks})
        self.uses_depth = "depth" in tasks
        self.weight = weight
        self.attack = attack
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator, depth: Tensor | None = None) -> Losses:
        """Return the sum of main, auxiliary and task losses; see `defenses.base.LearnsFromDepth`."""
        seen = attacked(self.attack, self.segmenter, images, masks, ignore_index=self.ignore_index, generator=generator)
        features = self.segmenter.features(seen)
        logits = self.segmenter.classify(self.segmenter.classifier, features.main, images)
        main = cross_entropy(logits, masks, self.ignore_index)
        auxiliary = auxiliary_loss(self.segmenter, features.auxiliary, images, masks, self.ignore_index)
        tasks = {
            task: self._task_loss(task, self.segmenter.classify(head, features.main, images), images, masks, depth)
            for task, head in self.heads.items()
        }
        total = main + self.aux_weight * auxiliary + self.weight / len(tasks) * sum(tasks.values())
        terms = {"main": main, "auxiliary": auxiliary, **tasks}
        return Losses(total, {name: value.detach() for name, value in terms.items()})

    def _task_loss(self, task: str, output: Tensor, images: Tensor, masks: Tensor, depth: Tensor | None) -> Tensor:
        if task == "reconstruction":
            return F.l1_loss(output.float(), images)
        if task == "depth":
            if depth is None:
                raise ValueError("multitask: the task 'depth' needs a dataset with depth, got a batch without")
            return inverse_depth_loss(output[:, 0].float(), depth)
        return cross_entropy(output, edges(masks, self.ignore_index), self.ignore_index)

    def deploy(self) -> Segmenter:
        """Return the network without the tasks' heads."""
        return self.segmenter


def edges(masks: Tensor, ignore_index: int) -> Tensor:
    """Return edge labels (N, H, W): 1 where the label differs from that of the right or lower neighbour, 0 elsewhere.

    Args:
        masks: (N, H, W).
        ignore_index: label of void pixels, which stay void; a border between a segment and void is not an edge.
    """
    valid = masks != ignore_index
    found = torch.zeros_like(masks, dtype=torch.bool)
    found[:, :, :-1] |= (masks[:, :, :-1] != masks[:, :, 1:]) & valid[:, :, 1:]
    found[:, :-1] |= (masks[:, :-1] != masks[:, 1:]) & valid[:, 1:]
    return torch.where(valid, found.long(), ignore_index)


def inverse_depth_loss(output: Tensor, depth: Tensor) -> Tensor:
    """L1 distance between the output and 1 / depth divided by its mean over the image; 0 if no depth is known.

    Args:
        output: prediction, (N, H, W).
        depth: (N, H, W), 0 where the depth is unknown. Its unit does not matter.
    """
    known = depth > 0
    inverse = torch.where(known, 1 / depth.where(known, 1), 0)
    mean = inverse.sum((1, 2), keepdim=True) / known.sum((1, 2), keepdim=True).clamp_min(1)
    target = inverse / mean.where(mean > 0, 1)
    return ((output - target).abs() * known).sum() / known.sum().clamp_min(1)
