"""DeepLabv3: atrous spatial pyramid pooling on a dilated encoder."""

from __future__ import annotations

from torch import Tensor, nn

from segbench.model_zoo.base import ModelError, Segmenter, model
from segbench.model_zoo.encoders import OutputStride, get_encoder
from segbench.model_zoo.heads import assemble, conv_bn_relu, joined


class AtrousPooling(nn.Module):
    """Concatenation of parallel branches: a 1x1 convolution, dilated 3x3 convolutions and global average pooling.

    Args:
        in_channels: number of input channels.
        channels: number of output channels of each branch.
        rates: dilation of each 3x3 convolution.

    Raises:
        ModelError: `rates` is empty, or a rate is not positive.
    """

    def __init__(self, in_channels: int, channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            raise ModelError(f"rates must hold at least one dilation, each at least 1, got {list(rates)}")
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*conv_bn_relu(in_channels, channels, 1)),
                *(nn.Sequential(*conv_bn_relu(in_channels, channels, 3, dilation=rate)) for rate in rates),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(in_channels, channels, 1)),
            ]
        )
        self.channels = channels * len(self.branches)

    def forward(self, features: Tensor) -> Tensor:
        """Return the concatenated features of all branches, (N, channels, H, W)."""
        *maps, image = (branch(features) for branch in self.branches)
        return joined([*maps, image.expand_as(maps[0])])


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
        num_classes: number of classes.
        encoder: "tiny", "resnet50-deepstem" (the encoder of the DDC-AT authors), or an encoder name of
            segmentation-models-pytorch such as "resnet18" or "tu-convnext_tiny".
        output_stride: size of the image divided by the size of the last feature map, 8 or 16.
        widths: channels of the four stages of the tiny encoder.
        rates: dilations of the 3x3 branches; None means 6, 12, 18, or 1, 2, 3 with the tiny encoder.
        channels: width of each branch and of the classifier; None means 256, or 48 with the tiny encoder.
        dropout: dropout probability of the channels in the classifiers.
        auxiliary: add an auxiliary classifier on stage 3.
        weights: ImageNet weights of the encoder: the path of a file, "imagenet" to download them, or None.

    Source: Chen et al. 2017, https://arxiv.org/abs/1706.05587; heads as in the code of Xu et al. 2021.
    Departs from it in: no 1x1 projection after the concatenation of the branches; the classifier, whose first
        convolution is 1x1, receives all of them.
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
