"""UPerNet: pyramid pooling and a feature pyramid on an encoder of four maps."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import Features, Segmenter, model
from segbench.model_zoo.heads import classifier, conv_bn_relu
from segbench.model_zoo.pspnet import PyramidPooling
from segbench.model_zoo.pyramids import DIVISOR, Pyramid, get_pyramid

BINS = (1, 2, 3, 6)
"""Number of cells of each pooling grid along one side."""


class FeaturePyramid(nn.Module):
    """Four maps -> one of the largest map's size: pooled context from the top is added to the maps on the way down.

    Args:
        pyramid: the encoder of the maps.
        channels: number of channels of every inner map and of the output.
    """

    def __init__(self, pyramid: Pyramid, channels: int) -> None:
        super().__init__()
        *lower, top = pyramid.channels
        self.norms = pyramid.norms()
        self.pooling = PyramidPooling(top, BINS, align_corners=False, width=channels)
        self.bottleneck = nn.Sequential(*conv_bn_relu(self.pooling.channels, channels, 3))
        self.laterals = nn.ModuleList(nn.Sequential(*conv_bn_relu(width, channels, 1)) for width in lower)
        self.outputs = nn.ModuleList(nn.Sequential(*conv_bn_relu(channels, channels, 3)) for _ in lower)
        self.fusion = nn.Sequential(*conv_bn_relu(len(pyramid.channels) * channels, channels, 3))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the fused features, and the normalised second to last map."""
        *lower, top = (norm(features) for norm, features in zip(self.norms, maps, strict=True))
        inner = [self.bottleneck(self.pooling(top))]
        for lateral, features in zip(reversed(self.laterals), reversed(lower), strict=True):
            inner.append(lateral(features) + _resize(inner[-1], features))
        largest = inner[-1]
        outputs = [output(features) for output, features in zip(self.outputs, inner[:0:-1], strict=True)]
        fused: Tensor = self.fusion(torch.cat([_resize(part, largest) for part in [*outputs, inner[0]]], 1))
        return fused, lower[-1]


class PyramidTrunk(nn.Module):
    """An encoder of four maps followed by a feature pyramid.

    Args:
        encoder: maps normalised images to feature maps, of which the last four are used.
        context: maps these four to the main and the auxiliary features.
    """

    def __init__(self, encoder: nn.Module, context: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.context = context

    def forward(self, images: Tensor) -> Features:
        """Return the main and the auxiliary features."""
        return Features(*self.context(self.encoder(images)[-4:]))


def _resize(features: Tensor, like: Tensor) -> Tensor:
    if features.shape[-2:] == like.shape[-2:]:
        return features
    return F.interpolate(features, like.shape[-2:], mode="bilinear", align_corners=False)


def linear_classifier(channels: int, dropout: float, num_classes: int) -> nn.Sequential:
    """Return a new classifier: channel dropout and a 1x1 convolution.

    Args:
        channels: number of channels of the features.
        dropout: dropout probability of the channels.
        num_classes: number of channels of the logits.
    """
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))


@model("upernet")
def upernet(
    num_classes: int,
    *,
    encoder: str = "tu-convnext_tiny",
    channels: int = 512,
    dropout: float = 0.1,
    drop_path: float | None = None,
    auxiliary: bool = True,
    weights: str | None = None,
) -> Segmenter:
    """UPerNet: pyramid pooling and a feature pyramid on a ConvNeXt, a Swin transformer or a ResNet.

    Args:
        num_classes: number of classes.
        encoder: "tu-convnext_tiny" and other names of timm and segmentation-models-pytorch, "convnext_tiny-cvst" (with
            the convolutional stem of robust classifiers), "swin-tiny", "swin-small" or "swin-base".
        channels: width of the feature pyramid.
        dropout: dropout probability of the channels in the classifiers.
        drop_path: stochastic depth rate of "swin-..." and "...-cvst"; None means 0.3.
        auxiliary: add an auxiliary classifier on stage 3.
        weights: ImageNet weights of the encoder: the path of a file, "imagenet" to download them, or None.

    Raises:
        ModelError: the encoder does not exist or has no four maps, or the weights are not available.

    Source: Xiao et al. 2018, https://arxiv.org/abs/1807.10221; with a classifier for semantic labels alone, the width
        and the auxiliary classifier of Liu et al. 2021 and 2022.
    """
    pyramid = get_pyramid(encoder, weights=weights, drop_path=drop_path)
    earlier = pyramid.channels[2]
    return Segmenter(
        PyramidTrunk(pyramid.module, FeaturePyramid(pyramid, channels)),
        partial(linear_classifier, channels, dropout),
        num_classes,
        auxiliary=classifier(earlier, min(channels, 256), num_classes, dropout=dropout) if auxiliary else None,
        divisor=DIVISOR,
    )
