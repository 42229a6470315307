"""Segmenter: a vision transformer, and a transformer that gives every class a mask over the patches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import Features, ModelError, Segmenter, model
from segbench.model_zoo.encoders import IMAGENET, building, check_name, download, load_encoder

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

EPS = 1e-5
"""Epsilon of every layer normalisation."""


class PatchEncoder(nn.Module):
    """A vision transformer of timm: images -> normalised features of the patches, (N, C, H / patch, W / patch).

    Args:
        transformer: the vision transformer, which accepts images of any size and returns all tokens.
    """

    def __init__(self, transformer: VisionTransformer) -> None:
        super().__init__()
        self.model = transformer

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of the patches."""
        side = int(self.model.patch_embed.patch_size[0])
        height, width = images.shape[-2] // side, images.shape[-1] // side
        patches: Tensor = self.model(images)[:, self.model.num_prefix_tokens :]
        return patches.transpose(1, 2).reshape(len(images), -1, height, width)


class PatchTrunk(nn.Module):
    """An encoder of patches as a trunk.

    Args:
        encoder: maps normalised images to features of patches.
    """

    def __init__(self, encoder: PatchEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Features:
        """Return the features of the patches; there are no auxiliary features."""
        return Features(self.encoder(images), None)


class MaskTransformer(nn.Module):
    """Transformer over patches and class embeddings: the logit is the cosine of a patch and a class, normalised.

    Args:
        channels: number of channels.
        layers: number of blocks.
        dropout: dropout probability in the blocks.
        num_classes: number of channels of the logits.
    """

    def __init__(self, channels: int, layers: int, dropout: float, num_classes: int) -> None:
        from timm.layers.weight_init import trunc_normal_
        from timm.models.vision_transformer import Block

        super().__init__()
        self.num_classes = num_classes
        heads = max(1, channels // 64)
        self.blocks = nn.Sequential(
            *(Block(channels, heads, qkv_bias=True, proj_drop=dropout, attn_drop=dropout) for _ in range(layers))
        )
        self.cls_emb = nn.Parameter(trunc_normal_(torch.empty(1, num_classes, channels), std=0.02))
        self.proj_dec = nn.Linear(channels, channels)
        self.proj_patch = nn.Parameter(torch.randn(channels, channels) * channels**-0.5)
        self.proj_classes = nn.Parameter(torch.randn(channels, channels) * channels**-0.5)
        self.decoder_norm = nn.LayerNorm(channels)
        self.mask_norm = nn.LayerNorm(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        set_epsilon(self, EPS)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of the patches, (N, num_classes, H / patch, W / patch)."""
        count, _, height, width = features.shape
        patches = self.proj_dec(features.flatten(2).transpose(1, 2))
        tokens = torch.cat([patches, self.cls_emb.expand(count, -1, -1)], 1)
        tokens = self.decoder_norm(self.blocks(tokens))
        patches = F.normalize(tokens[:, : -self.num_classes] @ self.proj_patch, dim=-1)
        classes = F.normalize(tokens[:, -self.num_classes :] @ self.proj_classes, dim=-1)
        masks: Tensor = self.mask_norm(patches @ classes.transpose(1, 2))
        return masks.transpose(1, 2).reshape(count, self.num_classes, height, width)


def set_epsilon(module: nn.Module, eps: float) -> None:
    """Set the epsilon of every layer normalisation inside a module."""
    for inner in module.modules():
        if isinstance(inner, nn.LayerNorm):
            inner.eps = eps


@model("segmenter")
def segmenter(
    num_classes: int,
    *,
    encoder: str = "tu-vit_small_patch16_224",
    decoder: Literal["mask", "linear"] = "mask",
    layers: int = 2,
    size: int = 512,
    patch_size: int | None = None,
    dropout: float = 0.1,
    drop_path: float = 0.1,
    weights: str | None = None,
) -> Segmenter:
    """Segmenter: a vision transformer, and a transformer that gives every class a mask over the patches.

    Args:
        num_classes: number of classes.
        encoder: a vision transformer of timm, such as "tu-vit_small_patch16_224".
        decoder: "mask" (mask transformer) or "linear" (a 1x1 convolution).
        layers: number of blocks of the mask transformer.
        size: height and width of the images for which there is a position embedding for every patch; at other sizes
            the embeddings are interpolated.
        patch_size: height and width of a patch; None means the encoder's.
        dropout: dropout probability in the mask transformer.
        drop_path: stochastic depth rate of the encoder's last block.
        weights: ImageNet weights of the encoder: the path of a file, "imagenet" to download them, or None. Position
            embeddings of another size are interpolated.

    Raises:
        ModelError: the encoder is no vision transformer with patches of this size, or the weights are not available.

    Source: Strudel et al. 2021, https://arxiv.org/abs/2105.05633.
    Departs from it in: images are padded with the mean colour to whole patches, and with timm position embeddings are
        interpolated bicubically.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer

    check_name(encoder)
    name = encoder.removeprefix("tu-")
    options: dict[str, Any] = {} if patch_size is None else {"patch_size": patch_size}
    with building(f"segmenter on {encoder}", weights):
        transformer = timm.create_model(
            name,
            pretrained=bool(download(encoder, weights)),
            img_size=size,
            dynamic_img_size=True,
            num_classes=0,
            global_pool="",
            drop_path_rate=drop_path,
            **options,
        )
    if not isinstance(transformer, VisionTransformer):
        raise ModelError(f"{encoder} is no vision transformer; choose one, such as tu-vit_small_patch16_224")
    set_epsilon(transformer, EPS)
    module = PatchEncoder(transformer)
    if weights is not None and weights != IMAGENET:
        load_encoder(module, weights)
    channels = int(transformer.embed_dim)
    mask = partial(MaskTransformer, channels, layers, dropout)
    head = mask if decoder == "mask" else partial(nn.Conv2d, channels, kernel_size=1)
    return Segmenter(PatchTrunk(module), head, num_classes, divisor=int(transformer.patch_embed.patch_size[0]))
