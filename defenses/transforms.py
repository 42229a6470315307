"""Networks behind a transformation of their input that has no useful gradient of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from defenses.base import Losses, segmentation_loss
from model_zoo.base import Segmenter

Transform = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] -> images of the same shape and range, each image by itself."""


class StraightThrough(torch.autograd.Function):
    """A transformation forward, the identity backward: BPDA, the gradient of an attacker who knows the defense.

    Source: Athalye et al. 2018, section 4.1, https://arxiv.org/abs/1802.00420.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, transform: Transform) -> Tensor:
        """Return the transformed images."""
        return transform(images).to(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient as it is."""
        return gradients[0], None


class Transformed(nn.Module):
    """A network that sees transformed images; gradients pass the transformation straight through.

    Args:
        plain: images (N, 3, H, W) in [0, 1] -> logits.
        transform: what is done to the images.
    """

    def __init__(self, plain: nn.Module, transform: Transform) -> None:
        super().__init__()
        self.plain = plain
        self.transform = transform

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the transformed images."""
        logits: Tensor = self.plain(StraightThrough.apply(images, self.transform))
        return logits


class InputTransform(nn.Module):
    """Training on clean images as without a defense; the network is deployed behind a transformation.

    With the same seed the plain network inside is the one that `none` trains, bit for bit.

    Args:
        segmenter: the network to train.
        transform: what is done to images at inference.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.
    """

    def __init__(self, segmenter: Segmenter, *, transform: Transform, aux_weight: float, ignore_index: int) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.transform = transform
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the clean batch; see `defenses.base.TrainingDefense`."""
        return segmentation_loss(
            self.segmenter, images, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def deploy(self) -> Transformed:
        """Return the network behind the transformation."""
        return Transformed(self.segmenter, self.transform)
