"""Encoders that give four feature maps, of a quarter to a thirty-second of the image's size."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.convnext import ConvStemConvNeXt
from segbench.model_zoo.encoders import IMAGENET, building, check_name, download, load_encoder
from segbench.model_zoo.swin import SIZES, SwinEncoder

CONV_STEM = "-cvst"
"""End of the names of ConvNeXts with a convolutional stem, such as "convnext_tiny-cvst"."""

DIVISOR = 32
"""Height and width of images are padded to a multiple of it, so that every map has at least one place."""


class Pyramid(NamedTuple):
    """An encoder and its properties.

    Attributes:
        module: maps normalised images to feature maps; the last four are used.
        channels: channels of the last four feature maps.
        norm_eps: epsilon of the layer normalisation that these maps still need, or None if they need none.
    """

    module: nn.Module
    channels: tuple[int, int, int, int]
    norm_eps: float | None

    def norms(self) -> nn.ModuleList:
        """Return a normalisation for every map."""
        from timm.layers.norm import LayerNorm2d

        return nn.ModuleList(
            nn.Identity() if self.norm_eps is None else LayerNorm2d(channels, eps=self.norm_eps)
            for channels in self.channels
        )


def get_pyramid(name: str, *, weights: str | None = None, drop_path: float | None = None) -> Pyramid:
    """Return an encoder of four maps.

    Args:
        name: "convnext_tiny-cvst" (a ConvNeXt of timm with a convolutional stem), "swin-tiny", "swin-small",
            "swin-base", or a name of segmentation-models-pytorch ("mit_b0", "resnet50", "tu-convnext_tiny").
        weights: ImageNet weights: the path of a file, "imagenet" to download them, or None.
        drop_path: stochastic depth rate of the last block of a ConvNeXt or a Swin; None means 0.3.

    Raises:
        ModelError: the encoder does not exist or has no such maps, or its weights are not available.
    """
    if name in SIZES or name.endswith(CONV_STEM):
        return _own(name, weights, 0.3 if drop_path is None else drop_path)
    from segmentation_models_pytorch.encoders import get_encoder as build

    check_name(name)
    options = {"strict_img_size": False} if "swin" in name else {}
    with building(f"encoder {name}", weights):
        module = build(name, weights=download(name, weights), **options)
    channels = tuple(module.out_channels[-4:])
    if module.output_stride != DIVISOR or len(channels) != 4 or not all(channels):
        raise ModelError(
            f"encoder {name} has no feature maps of 1/4, 1/8, 1/16 and 1/32 of the image; choose another, such as "
            "resnet50, mit_b0, tu-convnext_tiny or swin-tiny"
        )
    if weights is not None and weights != IMAGENET:
        load_encoder(module, weights)
    return Pyramid(module, channels, 1e-6 if "convnext" in name else 1e-5 if "swin" in name else None)


def _own(name: str, weights: str | None, drop_path: float) -> Pyramid:
    import timm

    if weights == IMAGENET:
        raise ModelError(f"no ImageNet weights can be downloaded for {name}; set weights to the path of a file")
    module: SwinEncoder | ConvStemConvNeXt
    if name in SIZES:
        module, eps = SwinEncoder(SIZES[name], drop_path=drop_path), 1e-5
    else:
        plain = name.removesuffix(CONV_STEM)
        if "convnext" not in plain or plain not in timm.list_models():
            raise ModelError(f"there is no encoder {name!r}; 'convnext_tiny{CONV_STEM}' is one")
        module, eps = ConvStemConvNeXt(plain, drop_path=drop_path), 1e-6
    if weights is not None:
        load_encoder(module, weights)
    one, two, three, four = module.channels
    return Pyramid(module, (one, two, three, four), eps)
