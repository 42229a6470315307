"""Networks with a transformation in front of their input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segbench.defenses.base import Losses, segmentation_loss
from segbench.model_zoo.base import Segmenter

Transform = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] -> images of the same shape and range; every image is transformed independently."""


class Substituted(torch.autograd.Function):
    """Applies a transformation forward and the gradient of a stand-in backward (BPDA).

    Without a stand-in the backward pass uses the gradient of the identity (straight through).

    Source: Athalye et al. 2018, section 4.1, https://arxiv.org/abs/1802.00420.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, transform: Transform, stand_in: Transform | None) -> Tensor:
        """Return the transformed images."""
        ctx.save_for_backward(images)
        ctx.stand_in = stand_in
        return transform(images.detach()).to(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient through the stand-in."""
        if ctx.stand_in is None:
            return gradients[0], None, None
        with torch.enable_grad():
            images = ctx.saved_tensors[0].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(ctx.stand_in(images), images, gradients[0])
        return gradient, None, None


class Transformed(nn.Module):
    """A network that transforms its input; gradients pass through the stand-in of the transformation.

    Args:
        plain: images (N, 3, H, W) in [0, 1] -> logits.
        transform: the transformation of the images.
        stand_in: differentiable approximation of `transform` for the backward pass, or None for the identity.
    """

    def __init__(self, plain: nn.Module, transform: Transform, stand_in: Transform | None = None) -> None:
        super().__init__()
        self.plain = plain
        self.transform = transform
        self.stand_in = stand_in

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the transformed images."""
        logits: Tensor = self.plain(Substituted.apply(images, self.transform, self.stand_in))
        return logits


class InputTransform(nn.Module):
    """Training on clean images, as with `none`; deploys the network with a transformation in front of its input.

    With the same seed, the plain network inside is bit for bit the one that `none` trains.

    Args:
        segmenter: the network to train.
        transform: the transformation of the images at inference.
        stand_in: differentiable approximation of `transform` for adaptive attacks; see `Transformed`.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        transform: Transform,
        stand_in: Transform | None = None,
        aux_weight: float,
        ignore_index: int,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.transform = transform
        self.stand_in = stand_in
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the clean batch; see `defenses.base.TrainingDefense`."""
        return segmentation_loss(
            self.segmenter, images, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def deploy(self) -> Transformed:
        """Return the network with the transformation in front of its input."""
        return Transformed(self.segmenter, self.transform, self.stand_in)
