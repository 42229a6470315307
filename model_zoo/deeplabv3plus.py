"""DeepLabv3+: separable atrous pooling, refined with an early feature map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import Features, ModelError, Segmenter, model
from segbench.model_zoo.encoders import Encoder, OutputStride, get_encoder
from segbench.model_zoo.heads import AUX_CHANNELS, classifier, conv_bn_relu, joined
from segbench.model_zoo.upernet import linear_classifier

REFINED = 48
"""Channels of the early map after its projection."""


def separable(in_channels: int, channels: int, *, dilation: int = 1) -> nn.Sequential:
    """Return a depthwise 3x3 and a 1x1 convolution, each with batch normalisation and ReLU."""
    depthwise = nn.Conv2d(
        in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False
    )
    first = [depthwise, nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*first, *conv_bn_relu(in_channels, channels, 1))


class SeparableDecoder(nn.Module):
    """Separable atrous pooling of the last map, resized and refined with an early map.

    Args:
        in_channels: channels of the last map.
        early_channels: channels of the early map.
        channels: width of every branch and of the output.
        rates: dilations of the 3x3 branches.
        align_corners: option of the bilinear resize.

    Raises:
        ModelError: `rates` is empty, or a rate is not positive.
    """

    def __init__(
        self, in_channels: int, early_channels: int, channels: int, rates: tuple[int, ...], *, align_corners: bool
    ) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            raise ModelError(f"rates must hold at least one dilation, each at least 1, got {list(rates)}")
        self.image = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(in_channels, channels, 1))
        self.point = nn.Sequential(*conv_bn_relu(in_channels, channels, 1))
        self.atrous = nn.ModuleList(separable(in_channels, channels, dilation=rate) for rate in rates)
        self.bottleneck = nn.Sequential(*conv_bn_relu((len(rates) + 2) * channels, channels, 3))
        self.early = nn.Sequential(*conv_bn_relu(early_channels, REFINED, 1))
        self.refine = nn.Sequential(separable(channels + REFINED, channels), separable(channels, channels))
        self.align_corners = align_corners

    def forward(self, early: Tensor, last: Tensor) -> Tensor:
        """Return features of the early map's size."""
        point = self.point(last)
        branches = [self.image(last).expand_as(point), point, *(branch(last) for branch in self.atrous)]
        pooled = self.bottleneck(joined(branches))
        size = early.shape[-2:]
        resized = F.interpolate(pooled, size, mode="bilinear", align_corners=self.align_corners)
        refined: Tensor = self.refine(joined([resized, self.early(early)]))
        return refined


class RefiningTrunk(nn.Module):
    """An encoder, and a decoder of its first map of a quarter of the image's size and its last map.

    Args:
        encoder: maps normalised images to feature maps.
        context: maps two of them to the main features.
    """

    def __init__(self, encoder: nn.Module, context: SeparableDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.context = context

    def forward(self, images: Tensor) -> Features:
        """Return the main features, and the second to last feature map for the auxiliary classifier."""
        early, _, earlier, last = self.encoder(images)[-4:]
        return Features(self.context(early, last), earlier)


def assemble_refining(
    encoder: Encoder, num_classes: int, *, channels: int, rates: tuple[int, ...], dropout: float, auxiliary: bool
) -> Segmenter:
    """Build DeepLabv3+ from an encoder; see `deeplabv3plus` for the arguments."""
    counts: Sequence[int] = getattr(encoder.module, "out_channels", ())
    if len(counts) < 4 or not counts[-4]:
        raise ModelError("deeplabv3plus needs an encoder with a feature map of 1/4 of the image, such as resnet50")

    context = SeparableDecoder(encoder.channels, counts[-4], channels, rates, align_corners=encoder.align_corners)
    width = min(channels, AUX_CHANNELS)
    return Segmenter(
        RefiningTrunk(encoder.module, context),
        partial(linear_classifier, channels, dropout),
        num_classes,
        auxiliary=classifier(encoder.aux_channels, width, num_classes, dropout=dropout) if auxiliary else None,
        divisor=encoder.divisor,
        remainder=encoder.remainder,
        align_corners=encoder.align_corners,
    )


@model("deeplabv3plus")
def deeplabv3plus(
    num_classes: int,
    *,
    encoder: str = "resnet50",
    output_stride: OutputStride = 8,
    rates: tuple[int, ...] = (12, 24, 36),
    channels: int = 512,
    dropout: float = 0.1,
    auxiliary: bool = True,
    weights: str | None = None,
) -> Segmenter:
    """DeepLabv3+: separable atrous pooling, refined with an early feature map.

    Args:
        num_classes: number of classes.
        encoder: an encoder name of segmentation-models-pytorch with a map of a quarter of the image's size, such as
            "resnet18" or "tu-resnet50c".
        output_stride: size of the image divided by the size of the last feature map, 8 or 16.
        rates: dilations of the 3x3 branches.
        channels: width of every branch and of the decoder.
        dropout: dropout probability of the channels in the classifiers.
        auxiliary: add an auxiliary classifier on stage 3.
        weights: ImageNet weights of the encoder: the path of a file, "imagenet" to download them, or None.

    Raises:
        ModelError: the encoder has no such map, or the weights are not available.

    Source: Chen et al. 2018, https://arxiv.org/abs/1802.02611; width, rates and the 3x3 convolution after the branches
        as in mmsegmentation.
    """
    backbone = get_encoder(encoder, output_stride=output_stride, weights=weights)
    return assemble_refining(
        backbone, num_classes, channels=channels, rates=tuple(rates), dropout=dropout, auxiliary=auxiliary
    )
