"""Networks behind a transformation of their input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segbench.defenses.base import Losses, segmentation_loss
from segbench.model_zoo.base import Segmenter

Transform = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] -> images of the same shape and range, each image by itself."""


class Substituted(torch.autograd.Function):
    """A transformation forward, the gradient of a stand-in backward (BPDA); without a stand-in, the identity's.

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
        """Return the gradient that the stand-in hands back."""
        if ctx.stand_in is None:
            return gradients[0], None, None
        with torch.enable_grad():
            images = ctx.saved_tensors[0].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(ctx.stand_in(images), images, gradients[0])
        return gradient, None, None


class Transformed(nn.Module):
    """A network that sees transformed images; the attacker who goes through it has the stand-in's gradient.

    Args:
        plain: images (N, 3, H, W) in [0, 1] -> logits.
        transform: what is done to the images.
        stand_in: a function like `transform` with a useful gradient, or None for the identity.
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
    """Training on clean images as without a defense; the network is deployed behind a transformation.

    With the same seed the plain network inside is the one that `none` trains, bit for bit.

    Args:
        segmenter: the network to train.
        transform: what is done to images at inference.
        stand_in: where an adaptive attacker takes the transformation's gradient from; see `Transformed`.
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
        """Return the network behind the transformation."""
        return Transformed(self.segmenter, self.transform, self.stand_in)
