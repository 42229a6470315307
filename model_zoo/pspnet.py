"""PSPNet: pyramid pooling on a dilated encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import ModelError, Segmenter, model
from segbench.model_zoo.encoders import OutputStride, get_encoder
from segbench.model_zoo.heads import assemble, conv_bn_relu, joined


class PyramidPooling(nn.Module):
    """Concatenation of the features with their averages over coarse grids, each reduced by a 1x1 convolution.

    Args:
        in_channels: number of input channels.
        bins: number of cells of each grid along one side.
        align_corners: option of the bilinear resize of the averages.
        width: number of channels that each grid's average is reduced to; None means in_channels / number of grids.

    Raises:
        ModelError: `bins` is empty, or a number of cells is not positive.
    """

    def __init__(
        self, in_channels: int, bins: tuple[int, ...], *, align_corners: bool, width: int | None = None
    ) -> None:
        super().__init__()
        if not bins or min(bins) < 1:
            raise ModelError(f"bins must hold at least one number of cells, each at least 1, got {list(bins)}")
        width = in_channels // len(bins) if width is None else width
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), *conv_bn_relu(in_channels, width, 1)) for size in bins
        )
        self.channels = in_channels + width * len(bins)
        self.align_corners = align_corners

    def forward(self, features: Tensor) -> Tensor:
        """Return the features concatenated with the resized averages, (N, channels, H, W)."""
        pooled = [self._resize(branch(features), features.shape[-2:]) for branch in self.branches]
        return joined([features, *pooled])

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
        num_classes: number of classes.
        encoder: "tiny", "resnet50-deepstem" (the encoder of the DDC-AT authors), or an encoder name of
            segmentation-models-pytorch such as "resnet18" or "tu-convnext_tiny".
        output_stride: size of the image divided by the size of the last feature map, 8 or 16.
        widths: channels of the four stages of the tiny encoder.
        bins: number of cells of each pooling grid along one side.
        channels: width of the classifier; None means 512, or 48 with the tiny encoder.
        dropout: dropout probability of the channels in the classifiers.
        auxiliary: add an auxiliary classifier on stage 3.
        weights: ImageNet weights of the encoder: the path of a file, "imagenet" to download them, or None.

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
