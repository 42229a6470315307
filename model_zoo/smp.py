"""Any architecture of segmentation-models-pytorch."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from segbench.model_zoo.base import Features, ModelError, Segmenter, model
from segbench.model_zoo.encoders import IMAGENET, building, check_name, download, load_encoder
from segbench.model_zoo.heads import AUX_CHANNELS, classifier

Architecture = Literal[
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "deeplabv3",
    "deeplabv3plus",
    "pan",
    "upernet",
    "segformer",
    "dpt",
]

OPTIONS: dict[str, dict[str, Any]] = {
    "pspnet": {"encoder_depth": 5, "output_stride": 8},
    "dpt": {"dynamic_img_size": True, "num_classes": 0},
}
"""Options of an architecture that differ from the library's defaults."""


class SmpTrunk(nn.Module):
    """An encoder and a decoder of segmentation-models-pytorch.

    Args:
        encoder: maps normalised images to feature maps, for DPT to feature maps and prefix tokens.
        decoder: maps the encoder's output to the main features.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Features:
        """Return the decoder's features, and the encoder's second to last feature map for the auxiliary classifier."""
        try:
            encoded = self.encoder(images)
        except AssertionError as error:  # raised by timm networks that accept one image size only
            height, width = images.shape[-2:]
            raise ModelError(
                f"this encoder does not accept images of (padded) size {height}x{width} ({error}); resize the images, "
                "or choose an encoder that accepts any size"
            ) from error
        if isinstance(encoded, tuple):
            maps, tokens = encoded
            return Features(self.decoder(maps, tokens), maps[-2])
        return Features(self.decoder(encoded), encoded[-2])


@model("smp")
def smp(
    num_classes: int,
    *,
    architecture: Architecture = "unet",
    encoder: str = "resnet34",
    dropout: float = 0.1,
    auxiliary: bool = True,
    weights: str | None = None,
) -> Segmenter:
    """Any architecture of segmentation-models-pytorch, with the library's default options.

    Args:
        num_classes: number of classes.
        architecture: "unet", "fpn", "deeplabv3plus", "upernet", "segformer", "dpt", ...
        encoder: an encoder name of segmentation-models-pytorch, such as "resnet18", "mit_b0" or "tu-convnext_tiny";
            "dpt" needs a vision transformer of timm, such as "tu-vit_small_patch16_224".
        dropout: dropout probability of the channels in the auxiliary classifier.
        auxiliary: add an auxiliary classifier on the encoder's second to last feature map.
        weights: ImageNet weights of the encoder: the path of a file, "imagenet" to download them, or None.

    Raises:
        ModelError: the architecture does not support the encoder, or the weights are not available.

    Source: Iakubovskii 2019, https://github.com/qubvel-org/segmentation_models.pytorch.
    Departs from it in: "pspnet" uses all stages of its encoder, dilated to output stride 8; the library's default uses
        the first stages only. "dpt" accepts any image size.
    """
    import segmentation_models_pytorch as library

    check_name(encoder)
    options = {**OPTIONS.get(architecture, {}), **({"strict_img_size": False} if "swin" in encoder else {})}
    with building(f"{architecture} on {encoder}", weights):
        network = library.create_model(
            architecture, encoder, encoder_weights=download(encoder, weights), classes=num_classes, **options
        )
    if weights is not None and weights != IMAGENET:
        load_encoder(network.encoder, weights)
    earlier = network.encoder.out_channels[-2]
    return Segmenter(
        SmpTrunk(network.encoder, network.decoder),
        partial(fresh_head, network.segmentation_head),
        num_classes,
        auxiliary=classifier(earlier, min(earlier, AUX_CHANNELS), num_classes, dropout=dropout) if auxiliary else None,
        divisor=_divisor(architecture, encoder, network.encoder.output_stride),
    )


def _divisor(architecture: str, encoder: str, output_stride: int) -> int:
    """Return the number that height and width of the input must be multiples of."""
    if architecture == "pan":
        return 128  # the attention halves the last feature map (stride 16) three times
    if architecture == "dpt":
        if output_stride not in (8, 16, 32):
            raise ModelError(
                f"dpt does not support {encoder}, whose patch size is {output_stride}; choose an encoder with patch "
                "size 16"
            )
        return 2 * output_stride  # the decoder halves the map of patches once
    return 32


def fresh_head(head: nn.Module, num_classes: int) -> nn.Module:
    """Return a copy of a head for another number of classes, with the library's initialisation.

    Args:
        head: the template; its last convolution computes the logits.
        num_classes: number of channels of the new head's logits.
    """
    from segmentation_models_pytorch.base.initialization import initialize_head

    head = copy.deepcopy(head)
    name, last = [(name, module) for name, module in head.named_modules() if isinstance(module, nn.Conv2d)][-1]
    parent, _, attribute = name.rpartition(".")
    size = last.kernel_size[0]
    setattr(head.get_submodule(parent), attribute, nn.Conv2d(last.in_channels, num_classes, size, padding=size // 2))
    initialize_head(head)
    return head
