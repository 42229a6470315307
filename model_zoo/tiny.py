"""A small dilated residual encoder that trains in minutes on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

from segbench.model_zoo.base import ModelError

WIDTHS = (16, 24, 48, 64)
"""Default channels of the four stages."""


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016, figure 5 left).

    Args:
        in_channels: number of input channels.
        channels: number of output channels.
        stride: stride of the first convolution and of the shortcut.
        dilation: dilation of both convolutions.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's features."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        activated: Tensor = self.relu(residual + self.shortcut(features))
        return activated


class TinyEncoder(nn.Module):
    """A 3x3 stem with stride 2 and four stages of one `BasicBlock` each.

    Args:
        widths: channels of the four stages; the stem has as many channels as the first stage.
        output_stride: 8 (the last stage is dilated) or 16.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, *, output_stride: int = 8) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ModelError(
                f"the tiny encoder needs four widths, one per stage, got {len(widths)}; for example {WIDTHS}"
            )
        first, second, third, fourth = widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        )
        self.stage1 = BasicBlock(first, first)
        self.stage2 = BasicBlock(first, second, stride=2)
        self.stage3 = BasicBlock(second, third, stride=2)
        last = {"dilation": 2} if output_stride == 8 else {"stride": 2}
        self.stage4 = BasicBlock(third, fourth, **last)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the last two stages."""
        third = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return third, self.stage4(third)
