"""Trunk and classifiers shared by `pspnet` and `deeplabv3`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from segbench.model_zoo.base import Features, Segmenter
from segbench.model_zoo.encoders import Encoder

AUX_CHANNELS = 256
"""Maximum width of the auxiliary classifier."""


class Trunk(nn.Module):
    """An encoder followed by a context module.

    Args:
        encoder: maps normalised images to feature maps.
        context: maps the last feature map to the main features.
    """

    def __init__(self, encoder: nn.Module, context: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.context = context

    def forward(self, images: Tensor) -> Features:
        """Return the main features, and the second to last feature map for the auxiliary classifier."""
        *_, earlier, last = self.encoder(images)
        return Features(self.context(last), earlier)


def conv_bn_relu(in_channels: int, channels: int, kernel_size: int, *, dilation: int = 1) -> list[nn.Module]:
    """Return a size-preserving convolution, batch normalisation and ReLU."""
    padding = dilation * (kernel_size // 2)
    convolution = nn.Conv2d(in_channels, channels, kernel_size, padding=padding, dilation=dilation, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate feature maps along the channels, in channels last if one of them lies so.

    Maps in two orders give a contiguous one, which each convolution behind it would copy in each pass. What is pooled
    to one place has no order of its own, and becomes contiguous when it is resized.

    Args:
        parts: feature maps, each (N, channels, H, W).
    """
    if any(part.is_contiguous(memory_format=torch.channels_last) and not part.is_contiguous() for part in parts):
        parts = [part.contiguous(memory_format=torch.channels_last) for part in parts]
    return torch.cat([*parts], 1)


def classifier(
    in_channels: int, channels: int, num_classes: int, *, kernel_size: int = 3, dropout: float = 0.1
) -> nn.Sequential:
    """Return a new classifier: convolution, batch normalisation, ReLU, channel dropout, 1x1 convolution.

    Args:
        in_channels: number of channels of the features.
        channels: number of channels after the first convolution.
        num_classes: number of channels of the logits.
        kernel_size: kernel size of the first convolution.
        dropout: dropout probability of the channels.
    """
    first = conv_bn_relu(in_channels, channels, kernel_size)
    return nn.Sequential(*first, nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))


def assemble(
    encoder: Encoder,
    context: nn.Module,
    context_channels: int,
    num_classes: int,
    *,
    channels: int,
    kernel_size: int,
    dropout: float,
    auxiliary: bool,
) -> Segmenter:
    """Build a `Segmenter` from an encoder, a context module and new classifiers.

    Args:
        encoder: an encoder created by `get_encoder`.
        context: module that receives the encoder's last features.
        context_channels: number of output channels of the context module.
        num_classes: number of classes.
        channels: width of the main classifier; the auxiliary classifier has the same width, at most `AUX_CHANNELS`.
        kernel_size: kernel size of the main classifier's first convolution; also of the auxiliary classifier's.
        dropout: dropout probability of the channels in the classifiers.
        auxiliary: add an auxiliary classifier.
    """
    head = partial(classifier, kernel_size=kernel_size, dropout=dropout)
    return Segmenter(
        Trunk(encoder.module, context),
        partial(head, context_channels, channels),
        num_classes,
        auxiliary=head(encoder.aux_channels, min(channels, AUX_CHANNELS), num_classes) if auxiliary else None,
        divisor=encoder.divisor,
        remainder=encoder.remainder,
        align_corners=encoder.align_corners,
    )
