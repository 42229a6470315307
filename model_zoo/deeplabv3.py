"""DeepLabv3: atrous spatial pyramid pooling on a dilated encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.model_zoo.base import ModelError, Segmenter, model
from segbench.model_zoo.encoders import OutputStride, get_encoder
from segbench.model_zoo.heads import assemble, conv_bn_relu


class AtrousPooling(nn.Module):
    """A 1x1 convolution, dilated 3x3 convolutions and the image's average side by side, concatenated.

    Args:
        in_channels: channels of the features.
        channels: of each branch.
        rates: dilation of each 3x3 convolution.

    Raises:
        ModelError: there are no rates, or one is not positive.
    """

    def __init__(self, in_channels: int, channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            raise ModelError(f"rates must be dilations from 1, got {list(rates)}")
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*conv_bn_relu(in_channels, channels, 1)),
                *(nn.Sequential(*conv_bn_relu(in_channels, channels, 3, dilation=rate)) for rate in rates),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(in_channels, channels, 1)),
            ]
        )
        self.channels = channels * len(self.branches)

    def forward(self, features: Tensor) -> Tensor:
        """Return the branches' features, (N, channels, H, W)."""
        *maps, image = (branch(features) for branch in self.branches)
        return torch.cat([*maps, image.expand_as(maps[0])], 1)


@model("deeplabv3")
def deeplabv3(
    num_classes: int,
    *,
    encoder: str = "resnet50",
    output_stride: OutputStride = 8,
    widths: tuple[int, ...] | None = None,
    rates: tuple[int, ...] | None = None,
    channels: int | None = None,
    dropout: float = 0.1,
    auxiliary: bool = True,
    weights: str | None = None,
) -> Segmenter:
    """DeepLabv3: atrous spatial pyramid pooling on a dilated encoder.

    Args:
        num_classes: classes to predict.
        encoder: "tiny", "resnet50-deepstem" (the DDC-AT authors' own), or a name of segmentation-models-pytorch
            such as "resnet18" or "tu-convnext_tiny".
        output_stride: size of the image over size of the last feature map, 8 or 16.
        widths: channels of the tiny encoder's four stages.
        rates: dilations of the 3x3 branches; by default 6, 12, 18, or 1, 2, 3 with the tiny encoder.
        channels: width of each branch and of the classifier; by default 256, or 48 with the tiny encoder.
        dropout: probability to drop a channel in the classifiers.
        auxiliary: have an auxiliary classifier on stage 3.
        weights: ImageNet weights of the encoder: a file, "imagenet" for a download, or none.

    Source: Chen et al. 2017, https://arxiv.org/abs/1706.05587; the heads as Xu et al. 2021 published them.
    Departs from it in: the branches are not projected to one width; the classifier reads them all, its first
        convolution being 1x1.
    """
    tiny = encoder == "tiny"
    backbone = get_encoder(encoder, output_stride=output_stride, weights=weights, widths=widths)
    if channels is None:
        channels = 48 if tiny else 256
    if rates is None:
        rates = (1, 2, 3) if tiny else (6, 12, 18)
    context = AtrousPooling(backbone.channels, channels, tuple(rates))
    return assemble(
        backbone,
        context,
        context.channels,
        num_classes,
        channels=channels,
        kernel_size=1,
        dropout=dropout,
        auxiliary=auxiliary,
    )
