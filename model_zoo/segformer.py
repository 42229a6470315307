"""SegFormer: a hierarchical transformer and perceptrons that fuse its four maps."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import Segmenter, model
from segbench.model_zoo.heads import classifier, conv_bn_relu
from segbench.model_zoo.pyramids import DIVISOR, Pyramid, get_pyramid
from segbench.model_zoo.upernet import PyramidTrunk, linear_classifier


class PerceptronFusion(nn.Module):
    """Four maps -> one of the largest map's size: every map is projected and resized, and all are fused.

    Args:
        pyramid: the encoder of the maps.
        channels: number of channels of every projected map and of the output.
    """

    def __init__(self, pyramid: Pyramid, channels: int) -> None:
        super().__init__()
        self.norms = pyramid.norms()
        self.projections = nn.ModuleList(nn.Sequential(*conv_bn_relu(width, channels, 1)) for width in pyramid.channels)
        self.fusion = nn.Sequential(*conv_bn_relu(len(pyramid.channels) * channels, channels, 1))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the fused features, and the normalised second to last map."""
        normed = [norm(features) for norm, features in zip(self.norms, maps, strict=True)]
        size = normed[0].shape[-2:]
        projected = [
            F.interpolate(projection(features), size, mode="bilinear", align_corners=False)
            for projection, features in zip(self.projections, normed, strict=True)
        ]
        fused: Tensor = self.fusion(torch.cat(projected, 1))
        return fused, normed[-2]


@model("segformer")
def segformer(
    num_classes: int,
    *,
    encoder: str = "mit_b0",
    channels: int = 256,
    dropout: float = 0.1,
    auxiliary: bool = False,
    weights: str | None = None,
) -> Segmenter:
    """SegFormer: a hierarchical transformer and perceptrons that fuse its four maps.

    Args:
        num_classes: number of classes.
        encoder: "mit_b0" to "mit_b5", or another encoder of four maps (see `upernet`).
        channels: width of the perceptrons.
        dropout: dropout probability of the channels in the classifiers.
        auxiliary: add an auxiliary classifier on stage 3.
        weights: ImageNet weights of the encoder: the path of a file, "imagenet" to download them, or None.

    Raises:
        ModelError: the encoder does not exist or has no four maps, or the weights are not available.

    Source: Xie et al. 2021, https://arxiv.org/abs/2105.15203.
    Departs from it in: every projection is followed by batch normalisation and ReLU, and its width is 256 for every
        encoder, as in mmsegmentation; the paper's is 768 from mit_b2 on.
    """
    pyramid = get_pyramid(encoder, weights=weights)
    earlier = pyramid.channels[2]
    return Segmenter(
        PyramidTrunk(pyramid.module, PerceptronFusion(pyramid, channels)),
        partial(linear_classifier, channels, dropout),
        num_classes,
        auxiliary=classifier(earlier, min(channels, 256), num_classes, dropout=dropout) if auxiliary else None,
        divisor=DIVISOR,
    )
