"""Multitask training: auxiliary tasks on the shared trunk."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.attacks.clean import clean
from segbench.defenses.base import Losses, auxiliary_loss, cross_entropy, defense
from segbench.model_zoo.base import Segmenter

Task = Literal["reconstruction", "edges", "depth"]

CHANNELS: dict[Task, int] = {"reconstruction": 3, "edges": 2, "depth": 1}
"""Channels of a task's head."""

UNATTACKED = clean.bind()
"""The published default: training on clean images."""


@defense("multitask")
class Multitask(nn.Module):
    """Multitask training: the trunk also learns to rebuild the image and to find the borders of segments.

    Published: auxiliary tasks with heads of their own on a shared encoder, the loss main + weight / number of tasks *
    sum of the tasks' losses, training on clean images; adversarial training as an extension. The heads are dropped at
    inference.

    Our reconstruction: which tasks (theirs come from Taskonomy and Cityscapes: depth, normals, edges and others; here
    those that need no further labels by default), the heads (a classifier of the architecture each), L1 for the image
    and for inverse depth, cross-entropy for edges, the weight.

    Args:
        segmenter: the network to train.
        tasks: "reconstruction" of the image, "edges" between segments, "depth" of the scene, where the dataset has it.
        weight: of the auxiliary tasks together.
        attack: the attack inside training, on every image, from the main classifier's loss; `clean` is none.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: there is no task.

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
            raise ValueError(f"multitask: tasks must name at least one of {', '.join(CHANNELS)}")
        self.segmenter = segmenter
        self.heads = nn.ModuleDict({task: segmenter.make_classifier(CHANNELS[task]) for task in tasks})
        self.uses_depth = "depth" in tasks
        self.weight = weight
        self.attack = attack
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator, depth: Tensor | None = None) -> Losses:
        """Return main, auxiliary and task losses; see `defenses.base.LearnsFromDepth`."""
        seen = self.attack(self.segmenter, images, masks, ignore_index=self.ignore_index, generator=generator)
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
                raise ValueError("multitask: the task depth needs the depth of every image")
            return inverse_depth_loss(output[:, 0].float(), depth)
        return cross_entropy(output, edges(masks, self.ignore_index), self.ignore_index)

    def deploy(self) -> Segmenter:
        """Return the network without the tasks' heads."""
        return self.segmenter


def edges(masks: Tensor, ignore_index: int) -> Tensor:
    """Return 1 where a pixel's label differs from its right or lower neighbour's, 0 elsewhere, void kept void.

    Args:
        masks: (N, H, W).
        ignore_index: label of void pixels; a border with void is no edge.
    """
    valid = masks != ignore_index
    found = torch.zeros_like(masks, dtype=torch.bool)
    found[:, :, :-1] |= (masks[:, :, :-1] != masks[:, :, 1:]) & valid[:, :, 1:]
    found[:, :-1] |= (masks[:, :-1] != masks[:, 1:]) & valid[:, 1:]
    return torch.where(valid, found.long(), ignore_index)


def inverse_depth_loss(output: Tensor, depth: Tensor) -> Tensor:
    """Mean distance from 1 / depth over its mean in the image, where the depth is known; 0 where none is.

    Args:
        output: (N, H, W).
        depth: (N, H, W), 0 where it is not known; its unit has no say.
    """
    known = depth > 0
    inverse = torch.where(known, 1 / depth.where(known, 1), 0)
    mean = inverse.sum((1, 2), keepdim=True) / known.sum((1, 2), keepdim=True).clamp_min(1)
    target = inverse / mean.where(mean > 0, 1)
    return ((output - target).abs() * known).sum() / known.sum().clamp_min(1)
