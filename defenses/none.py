"""No defense: training on clean images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.defenses.base import Losses, defense, segmentation_loss
from segbench.model_zoo.base import Segmenter


@defense("none")
class NoDefense(nn.Module):
    """Training on clean images only: the "No Defense" row of every table.

    Args:
        segmenter: the network to train.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.
    """

    def __init__(self, segmenter: Segmenter, *, aux_weight: float = 0.4, ignore_index: int = 255) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the clean batch; see `defenses.base.TrainingDefense`."""
        return segmentation_loss(
            self.segmenter, images, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def deploy(self) -> Segmenter:
        """Return the network."""
        return self.segmenter
