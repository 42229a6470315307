"""Swin transformer for images of any size, as segmentation networks use it."""

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Size(NamedTuple):
    """Size of a Swin transformer.

    Attributes:
        channels: channels of the first stage; each further stage has twice as many.
        depths: number of blocks in each stage.
        heads: number of attention heads in the first stage; each further stage has twice as many.
    """

    channels: int
    depths: tuple[int, ...]
    heads: int


SIZES = {
    "swin-tiny": Size(96, (2, 2, 6, 2), 3),
    "swin-small": Size(96, (2, 2, 18, 2), 3),
    "swin-base": Size(128, (2, 2, 18, 2), 4),
}


class WindowAttention(nn.Module):
    """Self-attention inside windows, with a learned bias for each relative position.

    Args:
        channels: number of channels.
        heads: number of attention heads.
        window: height and width of a window.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        from timm.layers.weight_init import trunc_normal_

        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        places = torch.tensor(list(product(range(window), repeat=2)))
        offsets = places[:, None] - places[None, :] + window - 1
        self.register_buffer("index", offsets[..., 0] * (2 * window - 1) + offsets[..., 1], persistent=False)
        trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attended windows.

        Args:
            windows: (N * number of windows, places, channels).
            mask: (number of windows, places, places), -100 where one place does not see the other; None if all do.
        """
        count, places, channels = windows.shape
        split = self.qkv(windows).view(count, places, 3, self.heads, channels // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias + mask[:, None]
            bias = bias.repeat(count // len(bias), 1, 1, 1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(count, places, channels))
        return projected


class SwinBlock(nn.Module):
    """Attention in windows and a perceptron, each with layer normalisation and a residual connection.

    Args:
        channels: number of channels.
        heads: number of attention heads.
        window: height and width of a window.
        shift: number of rows and columns by which the windows are shifted.
        drop_path: stochastic depth rate.
    """

    def __init__(self, channels: int, heads: int, *, window: int, shift: int, drop_path: float) -> None:
        from timm.layers.drop import DropPath

        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        layers = {"fc1": nn.Linear(channels, 4 * channels), "act": nn.GELU(), "fc2": nn.Linear(4 * channels, channels)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's features, (N, H, W, channels)."""
        features = features + self.drop_path(self._attended(self.norm1(features)))
        out: Tensor = features + self.drop_path(self.mlp(self.norm2(features)))
        return out

    def _attended(self, features: Tensor) -> Tensor:
        """Pad to whole windows, shift, attend in every window, shift back and cut."""
        count, height, width, channels = features.shape
        side = self.window
        padded = F.pad(features, (0, 0, 0, -width % side, 0, -height % side))
        shifted = padded.roll((-self.shift, -self.shift), (1, 2)) if self.shift else padded
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        windows = shifted.view(count, rows, side, columns, side, channels).transpose(2, 3)
        attended = self.attn(windows.reshape(-1, side * side, channels), self._mask(padded))
        shifted = attended.view(count, rows, columns, side, side, channels).transpose(2, 3).reshape(padded.shape)
        whole: Tensor = shifted.roll((self.shift, self.shift), (1, 2)) if self.shift else shifted
        return whole[:, :height, :width]

    def _mask(self, padded: Tensor) -> Tensor | None:
        """Return what separates places that a shift brought into one window, for every window."""
        if not self.shift:
            return None
        height, width = padded.shape[1:3]
        rows, columns = (self._regions(length, padded.device) for length in (height, width))
        regions = 3 * rows[:, None] + columns
        side = self.window
        windows = regions.view(height // side, side, width // side, side).transpose(1, 2).reshape(-1, side * side)
        return torch.where(windows[:, :, None] == windows[:, None, :], 0.0, -100.0)

    def _regions(self, length: int, device: torch.device) -> Tensor:
        """Number the parts of a side that lay apart before the shift: 0, 1 and 2."""
        place = torch.arange(length, device=device)
        return (place >= length - self.window).long() + (place >= length - self.shift).long()


class PatchMerging(nn.Module):
    """Halves height and width: the features of 2x2 places become those of one.

    Args:
        channels: number of input channels; the output has twice as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the merged features, (N, H / 2, W / 2, 2 * channels), rounded up."""
        height, width = features.shape[1:3]
        padded = F.pad(features, (0, 0, 0, width % 2, 0, height % 2))
        parts = [padded[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return merged


class SwinStage(nn.Module):
    """Patch merging, unless it is the first stage, and blocks whose windows are shifted in every second one.

    Args:
        channels: number of channels.
        heads: number of attention heads.
        rates: stochastic depth rate of each block.
        first: whether it is the first stage.
        window: height and width of a window.
    """

    def __init__(self, channels: int, heads: int, rates: list[float], *, first: bool, window: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if first else PatchMerging(channels // 2)
        self.blocks = nn.Sequential(
            *(
                SwinBlock(channels, heads, window=window, shift=window // 2 * (index % 2), drop_path=rate)
                for index, rate in enumerate(rates)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the stage's features, (N, H, W, channels)."""
        out: Tensor = self.blocks(self.downsample(features))
        return out


class SwinEncoder(nn.Module):
    """Swin transformer: images -> features of four stages.

    Module names are those of timm.

    Args:
        size: channels, blocks and heads.
        window: height and width of a window.
        drop_path: stochastic depth rate of the last block; that of the others grows linearly up to it.

    Attributes:
        channels: channels of the four feature maps.

    Source: Liu et al. 2021, https://arxiv.org/abs/2103.14030; as in the authors' segmentation code, features are padded
        to whole windows before windows are shifted, and the windows of small features are shifted too.
    """

    def __init__(self, size: Size, *, window: int = 7, drop_path: float = 0.3) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, size.channels, 4, stride=4), "norm": nn.LayerNorm(size.channels)}
        )
        blocks = sum(size.depths)
        rates = [drop_path * index / (blocks - 1) for index in range(blocks)]
        ends = [sum(size.depths[: index + 1]) for index in range(len(size.depths))]
        self.layers = nn.Sequential(
            *(
                SwinStage(
                    size.channels << index,
                    size.heads << index,
                    rates[end - depth : end],
                    first=index == 0,
                    window=window,
                )
                for index, (depth, end) in enumerate(zip(size.depths, ends, strict=True))
            )
        )
        self.channels = tuple(size.channels << index for index in range(len(size.depths)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of the four stages, (N, C, H, W) each."""
        height, width = images.shape[-2:]
        patches = self.patch_embed["proj"](F.pad(images, (0, -width % 4, 0, -height % 4)))
        features = self.patch_embed["norm"](patches.permute(0, 2, 3, 1))
        maps = []
        for stage in self.layers:
            features = stage(features)
            maps.append(features.permute(0, 3, 1, 2))
        return maps
