"""The dilated ResNet-50 with a deep stem of the semseg project, which DDC-AT also uses."""

from __future__ import annotations

from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)
"""Number of blocks in each of the four stages of a ResNet-50."""


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions; stride and dilation apply to the 3x3 convolution.

    Args:
        in_channels: number of input channels.
        planes: number of channels of the inner convolutions; the output has four times as many.
        stride: stride of the 3x3 convolution and of the shortcut.
        dilation: dilation of the 3x3 convolution.
        project: use a 1x1 convolution as the shortcut, not the identity.
    """

    def __init__(self, in_channels: int, planes: int, *, stride: int, dilation: int, project: bool) -> None:
        super().__init__()
        channels = 4 * planes
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if project:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's features."""
        inner = self.relu(self.bn1(self.conv1(features)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        activated: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.downsample(features))
        return activated


class DeepStemResNet50(nn.Module):
    """Dilated ResNet-50 with a stem of three 3x3 convolutions.

    Module names are those of the authors' checkpoints. All 3x3 convolutions of a dilated stage are dilated, including
    that of its first block. Height and width of the input must satisfy (size - 1) % output_stride == 0, so that the
    corners of feature maps and image coincide.

    Args:
        output_stride: 8 (stages 3 and 4 have dilation 2 and 4) or 16 (stage 4 has dilation 2).

    Source: Zhao et al., semseg, https://github.com/hszhao/semseg, as used by Xu et al. 2021.
    """

    def __init__(self, *, output_stride: int = 8) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(
            *_conv_bn_relu(3, 64, stride=2),
            *_conv_bn_relu(64, 64),
            *_conv_bn_relu(64, 128),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        third, fourth = {8: ((1, 2), (1, 4)), 16: ((2, 1), (1, 2))}[output_stride]
        self.layer1 = _stage(128, 64, BLOCKS[0], stride=1, dilation=1)
        self.layer2 = _stage(256, 128, BLOCKS[1], stride=2, dilation=1)
        self.layer3 = _stage(512, 256, BLOCKS[2], stride=third[0], dilation=third[1])
        self.layer4 = _stage(1024, 512, BLOCKS[3], stride=fourth[0], dilation=fourth[1])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the last two stages."""
        third = self.layer3(self.layer2(self.layer1(self.layer0(images))))
        return third, self.layer4(third)


def _conv_bn_relu(in_channels: int, channels: int, *, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _stage(in_channels: int, planes: int, blocks: int, *, stride: int, dilation: int) -> nn.Sequential:
    first = Bottleneck(in_channels, planes, stride=stride, dilation=dilation, project=True)
    rest = [Bottleneck(4 * planes, planes, stride=1, dilation=dilation, project=False) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
