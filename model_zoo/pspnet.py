"""PSPNet: pyramid pooling on a dilated encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import ModelError, Segmenter, model
from segbench.model_zoo.encoders import OutputStride, get_encoder
from segbench.model_zoo.heads import assemble, conv_bn_relu


class PyramidPooling(nn.Module):
    """Features beside their averages over coarse grids, concatenated.

    Args:
        in_channels: channels of the features; the averages are reduced to as many in total.
        bins: cells of each grid along a side.
        align_corners: how the averages are resized.

    Raises:
        ModelError: there are no bins, or one is not positive.
    """

    def __init__(self, in_channels: int, bins: tuple[int, ...], *, align_corners: bool) -> None:
        super().__init__()
        if not bins or min(bins) < 1:
            raise ModelError(f"bins must be numbers of cells from 1, got {list(bins)}")
        width = in_channels // len(bins)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), *conv_bn_relu(in_channels, width, 1)) for size in bins
        )
        self.channels = in_channels + width * len(bins)
        self.align_corners = align_corners

    def forward(self, features: Tensor) -> Tensor:
        """Return the features and the resized averages, (N, channels, H, W)."""
        pooled = [self._resize(branch(features), features.shape[-2:]) for branch in self.branches]
        return torch.cat([features, *pooled], 1)

    def _resize(self, pooled: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(pooled, size, mode="bilinear", align_corners=self.align_corners)


@model("pspnet")
def pspnet(
    num_classes: int,
    *,
    encoder: str = "resnet50",
    output_stride: OutputStride = 8,
    widths: tuple[int, ...] | None = None,
    bins: tuple[int, ...] = (1, 2, 3, 6),
    channels: int | None = None,
    dropout: float = 0.1,
    auxiliary: bool = True,
    weights: str | None = None,
) -> Segmenter:
    """PSPNet: pyramid pooling on a dilated encoder.

    Args:
        num_classes: classes to predict.
        encoder: "tiny", "resnet50-deepstem" (the DDC-AT authors' own), or a name of segmentation-models-pytorch
            such as "resnet18" or "tu-convnext_tiny".
        output_stride: size of the image over size of the last feature map, 8 or 16.
        widths: channels of the tiny encoder's four stages.
        bins: cells of each pooling grid along a side.
        channels: width of the classifier; by default 512, or 48 with the tiny encoder.
        dropout: probability to drop a channel in the classifiers.
        auxiliary: have an auxiliary classifier on stage 3.
        weights: ImageNet weights of the encoder: a file, "imagenet" for a download, or none.

    Source: Zhao et al. 2017, https://arxiv.org/abs/1612.01105.
    """
    default = 48 if encoder == "tiny" else 512
    backbone = get_encoder(encoder, output_stride=output_stride, weights=weights, widths=widths)
    context = PyramidPooling(backbone.channels, tuple(bins), align_corners=backbone.align_corners)
    return assemble(
        backbone,
        context,
        context.channels,
        num_classes,
        channels=default if channels is None else channels,
        kernel_size=3,
        dropout=dropout,
        auxiliary=auxiliary,
    )
