"""ConvNeXt with a convolutional stem, the backbone of robust ImageNet classifiers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ConvStem(nn.Module):
    """Two 3x3 convolutions with stride 2, each followed by layer normalisation and GELU.

    Args:
        channels: number of output channels; the first convolution has half as many.
    """

    def __init__(self, channels: int) -> None:
        from timm.layers.norm import LayerNorm2d

        super().__init__()
        half = channels // 2
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1),
            LayerNorm2d(half),
            nn.GELU(),
            nn.Conv2d(half, channels, 3, stride=2, padding=1),
            LayerNorm2d(channels),
            nn.GELU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features of a quarter of the images' size."""
        features: Tensor = self.stem(images)
        return features


class ConvStemConvNeXt(nn.Module):
    """A ConvNeXt of timm whose 4x4 patches are replaced by `ConvStem`.

    Args:
        name: name of the ConvNeXt in timm, such as "convnext_tiny".
        drop_path: stochastic depth rate of the last block; that of the others grows linearly up to it.

    Attributes:
        channels: channels of the four feature maps.

    Source: Singh, Croce and Hein 2023, section 3, https://arxiv.org/abs/2303.01870; module names are those of their
        ImageNet classifiers.
    """

    def __init__(self, name: str, *, drop_path: float) -> None:
        import timm

        super().__init__()
        whole: Any = timm.create_model(name, num_classes=0, drop_path_rate=drop_path)
        self.channels = tuple(int(stage["num_chs"]) for stage in whole.feature_info)
        self.stem = ConvStem(self.channels[0])
        self.stages: nn.Sequential = whole.stages

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of the four stages."""
        features = self.stem(images)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps
