"""What `pspnet` and `deeplabv3` share: the trunk and the classifiers."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from segbench.model_zoo.base import Features, Segmenter
from segbench.model_zoo.encoders import Encoder

AUX_CHANNELS = 256
"""Largest width of the auxiliary classifier."""


class Trunk(nn.Module):
    """An encoder and a context module on its last features.

    Args:
        encoder: normalised images -> feature maps.
        context: the last map -> what classifiers see.
    """

    def __init__(self, encoder: nn.Module, context: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.context = context

    def forward(self, images: Tensor) -> Features:
        """Return the main features, and the last but one map for the auxiliary classifier."""
        *_, earlier, last = self.encoder(images)
        return Features(self.context(last), earlier)


def conv_bn_relu(in_channels: int, channels: int, kernel_size: int, *, dilation: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the size, batch normalisation and ReLU."""
    padding = dilation * (kernel_size // 2)
    convolution = nn.Conv2d(in_channels, channels, kernel_size, padding=padding, dilation=dilation, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def classifier(
    in_channels: int, channels: int, num_classes: int, *, kernel_size: int = 3, dropout: float = 0.1
) -> nn.Sequential:
    """Return a fresh classifier: convolution, batch normalisation, ReLU, dropout of channels, 1x1 convolution.

    Args:
        in_channels: channels of the features.
        channels: its width.
        num_classes: channels of its logits.
        kernel_size: of the first convolution.
        dropout: probability to drop a channel.
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
    """Put encoder, context module and classifiers together.

    Args:
        encoder: made by `get_encoder`.
        context: module on its last features.
        context_channels: channels of that module's output.
        num_classes: classes of the main and the auxiliary classifier.
        channels: width of the main classifier, and of the auxiliary one up to `AUX_CHANNELS`.
        kernel_size: of the classifiers' first convolution.
        dropout: probability to drop a channel in the classifiers.
        auxiliary: have an auxiliary classifier.
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
