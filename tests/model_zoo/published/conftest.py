"""Slow modules written from the published definitions, with the published names of their parts, and formula weights."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def formula(module: nn.Module) -> dict[str, Tensor]:
    """Weights that depend on the key and the place alone, of a size that keeps features near 1."""
    state = {}
    for key, value in module.state_dict().items():
        if not value.is_floating_point():
            state[key] = value
            continue
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 12.9898 + zlib.crc32(key.encode()) % 997)
        wave = wave.view(value.shape).float()
        fan_in = value[0].numel() if value.ndim > 1 else 1
        if key.endswith(("running_var", "gamma")):
            state[key] = 0.6 + 0.4 * wave.square()
        elif value.ndim > 1:
            state[key] = wave * math.sqrt(3 / fan_in)
        else:
            state[key] = (1 if key.endswith("weight") else 0) + 0.2 * wave
    module.load_state_dict(state)
    module.eval()
    return state


@pytest.fixture
def with_formula() -> Callable[[nn.Module], dict[str, Tensor]]:
    return formula


def resized(features: Tensor, like: Tensor, aligned: bool = False) -> Tensor:
    return F.interpolate(features, like.shape[-2:], mode="bilinear", align_corners=aligned)


class ConvModule(nn.Module):
    """Convolution, batch normalisation, ReLU, as in mmcv; the name of the normalisation differs between projects."""

    def __init__(self, inside: int, outside: int, kernel: int, dilation: int = 1, groups: int = 1, norm: str = "bn"):
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inside, outside, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
        self.norm = norm
        self.add_module(norm, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.get_submodule(self.norm)(self.conv(x)))


class Separable(nn.Module):
    def __init__(self, inside: int, outside: int, dilation: int = 1):
        super().__init__()
        self.depthwise_conv = ConvModule(inside, inside, 3, dilation, groups=inside)
        self.pointwise_conv = ConvModule(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class Pooled(nn.Sequential):
    def __init__(self, inside: int, outside: int, bins: int, norm: str = "bn"):
        super().__init__(nn.AdaptiveAvgPool2d(bins), ConvModule(inside, outside, 1, norm=norm))


class Bottleneck(nn.Module):
    def __init__(self, inside: int, planes: int, stride: int, dilation: int, project: bool):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
        if project:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNetV1c(nn.Module):
    """Deep stem; in dilated stages the first block has half of the stage's dilation."""

    def __init__(self, dilated: bool):
        super().__init__()
        widths = ((3, 32, 2), (32, 32, 1), (32, 64, 1))
        self.stem = nn.Sequential(
            *(
                part
                for inside, outside, stride in widths
                for part in (
                    nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
                    nn.BatchNorm2d(outside),
                    nn.ReLU(),
                )
            )
        )
        strides, dilations = ((1, 2, 1, 1), (1, 1, 2, 4)) if dilated else ((1, 2, 2, 2), (1, 1, 1, 1))
        inside = 64
        for index, blocks in enumerate((3, 4, 6, 3)):
            planes, dilation = 64 << index, dilations[index]
            first = Bottleneck(inside, planes, strides[index], max(1, dilation // 2), True)
            inside = 4 * planes
            rest = [Bottleneck(inside, planes, 1, dilation, False) for _ in range(blocks - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(first, *rest))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        maps = []
        for index in range(4):
            x = self.get_submodule(f"layer{index + 1}")(x)
            maps.append(x)
        return maps


class FCNHead(nn.Module):
    def __init__(self, inside: int, classes: int, norm: str = "bn", last: str = "conv_seg"):
        super().__init__()
        self.convs = nn.Sequential(ConvModule(inside, 256, 3, norm=norm))
        self.last = last
        self.add_module(last, nn.Conv2d(256, classes, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.get_submodule(self.last)(self.convs(maps[2]))


class PSPHead(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.psp_modules = nn.ModuleList(Pooled(2048, 512, bins) for bins in (1, 2, 3, 6))
        self.bottleneck = ConvModule(2048 + 4 * 512, 512, 3)
        self.conv_seg = nn.Conv2d(512, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        return self.conv_seg(self.bottleneck(torch.cat([x, *(resized(part(x), x) for part in self.psp_modules)], 1)))


class ASPPHead(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.image_pool = Pooled(2048, 512, 1)
        self.aspp_modules = nn.ModuleList(
            ConvModule(2048, 512, 1 if rate == 1 else 3, rate) for rate in (1, 12, 24, 36)
        )
        self.bottleneck = ConvModule(5 * 512, 512, 3)
        self.conv_seg = nn.Conv2d(512, classes, 1)

    def pooled(self, x: Tensor) -> Tensor:
        parts = [resized(self.image_pool(x), x), *(part(x) for part in self.aspp_modules)]
        return self.bottleneck(torch.cat(parts, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.conv_seg(self.pooled(maps[-1]))


class SeparableASPPHead(ASPPHead):
    def __init__(self, classes: int):
        super().__init__(classes)
        for index, rate in enumerate((12, 24, 36)):
            self.aspp_modules[index + 1] = Separable(2048, 512, rate)
        self.c1_bottleneck = ConvModule(256, 48, 1)
        self.sep_bottleneck = nn.Sequential(Separable(560, 512), Separable(512, 512))

    def forward(self, maps: list[Tensor]) -> Tensor:
        early = self.c1_bottleneck(maps[0])
        return self.conv_seg(self.sep_bottleneck(torch.cat([resized(self.pooled(maps[-1]), early), early], 1)))


class UPerHead(nn.Module):
    def __init__(self, widths: list[int], classes: int, norm: str = "bn", last: str = "conv_seg"):
        super().__init__()
        self.psp_modules = nn.ModuleList(Pooled(widths[-1], 512, bins, norm) for bins in (1, 2, 3, 6))
        self.bottleneck = ConvModule(widths[-1] + 4 * 512, 512, 3, norm=norm)
        self.lateral_convs = nn.ModuleList(ConvModule(width, 512, 1, norm=norm) for width in widths[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(512, 512, 3, norm=norm) for _ in widths[:-1])
        self.fpn_bottleneck = ConvModule(4 * 512, 512, 3, norm=norm)
        self.last = last
        self.add_module(last, nn.Conv2d(512, classes, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        laterals = [lateral(maps[i]) for i, lateral in enumerate(self.lateral_convs)]
        x = maps[-1]
        laterals.append(self.bottleneck(torch.cat([x, *(resized(part(x), x) for part in self.psp_modules)], 1)))
        for i in range(3, 0, -1):
            laterals[i - 1] = laterals[i - 1] + resized(laterals[i], laterals[i - 1])
        outs = [conv(laterals[i]) for i, conv in enumerate(self.fpn_convs)] + [laterals[-1]]
        outs = [outs[0], *(resized(out, outs[0]) for out in outs[1:])]
        return self.get_submodule(self.last)(self.fpn_bottleneck(torch.cat(outs, 1)))


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int, depthwise: str, pointwise: str):
        super().__init__()
        self.names = (depthwise, f"{pointwise}1", f"{pointwise}2")
        self.add_module(depthwise, nn.Conv2d(width, width, 7, padding=3, groups=width))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.add_module(self.names[1], nn.Linear(width, 4 * width))
        self.add_module(self.names[2], nn.Linear(4 * width, width))
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        depthwise, first, second = (self.get_submodule(name) for name in self.names)
        out = self.norm(depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gamma * second(F.gelu(first(out)))).permute(0, 3, 1, 2)


class Stem(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        parts = ((3, width // 2), (width // 2, width))
        self.stem = nn.Sequential(
            *(
                part
                for inside, outside in parts
                for part in (
                    nn.Conv2d(inside, outside, 3, 2, 1),
                    ChannelNorm(outside, eps=1e-6),
                    nn.GELU(),
                )
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x)


class ConvNeXt(nn.Module):
    def __init__(self, depths: tuple[int, ...], depthwise: str, pointwise: str, stem: bool):
        super().__init__()
        widths = (96, 192, 384, 768)
        first = Stem(96) if stem else nn.Sequential(nn.Conv2d(3, 96, 4, 4), ChannelNorm(96, eps=1e-6))
        rest = [nn.Sequential(ChannelNorm(a, eps=1e-6), nn.Conv2d(a, b, 2, 2)) for a, b in itertools.pairwise(widths)]
        self.downsample_layers = nn.ModuleList([first, *rest])
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(width, depthwise, pointwise) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        for index, width in enumerate(widths):
            self.add_module(f"norm{index}", ChannelNorm(width, eps=1e-6))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, (down, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(down(x))
            maps.append(self.get_submodule(f"norm{index}")(x))
        return maps


class WindowMSA(nn.Module):
    """Attention of every place to the places of its window, one window at a time."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros(13 * 13, heads))
        y, x = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y[None] + 6) * 13 + x[:, None] - x[None] + 6
        self.register_buffer("relative_position_index", index)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, window: Tensor, region: Tensor) -> Tensor:
        """Attend in a window (49, C), whose places lie in regions (49) of the image."""
        q, k, v = self.qkv(window).view(49, 3, self.heads, -1).permute(1, 2, 0, 3)
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        scores = scores + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        scores = scores - 100.0 * (region[:, None] != region[None]).float()
        return self.proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(49, -1))


class SwinBlock(nn.Module):
    def __init__(self, width: int, heads: int, shift: int):
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.Module()
        self.attn.w_msa = WindowMSA(width, heads)
        self.ffn = nn.Module()
        self.ffn.layers = nn.Sequential(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU()), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend in windows of 7x7 of one image (H, W, C), padded below and right, then shifted up and left."""
        height, width, _ = x.shape
        padded = F.pad(self.norm1(x), (0, 0, 0, -width % 7, 0, -height % 7))
        rows, columns = padded.shape[:2]
        out = torch.zeros_like(padded)
        for top in range(0, rows, 7):
            for left in range(0, columns, 7):
                y = (torch.arange(top, top + 7) + self.shift) % rows
                x_ = (torch.arange(left, left + 7) + self.shift) % columns
                below = (y < self.shift).long()[:, None].expand(7, 7) if self.shift else torch.zeros(7, 7)
                right = (x_ < self.shift).long()[None].expand(7, 7) if self.shift else torch.zeros(7, 7)
                window = padded[y][:, x_].reshape(49, -1)
                attended = self.attn.w_msa(window, (2 * below + right).flatten()).view(7, 7, -1)
                out[y[:, None], x_[None]] = attended
        x = x + out[:height, :width]
        return x + self.ffn.layers(self.norm2(x))


class Merging(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width, _ = x.shape
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        size = (x.shape[0] // 2, x.shape[1] // 2)
        patches = F.unfold(x.permute(2, 0, 1)[None], 2, stride=2)[0].T
        return self.reduction(self.norm(patches)).view(*size, -1)


class SwinTiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.projection = nn.Conv2d(3, 96, 4, 4)
        self.patch_embed.norm = nn.LayerNorm(96)
        self.stages = nn.ModuleList()
        for index, depth in enumerate((2, 2, 6, 2)):
            stage = nn.Module()
            stage.blocks = nn.ModuleList(SwinBlock(96 << index, 3 << index, 3 * (i % 2)) for i in range(depth))
            if index < 3:
                stage.downsample = Merging(96 << index)
            self.stages.append(stage)
            self.add_module(f"norm{index}", nn.LayerNorm(96 << index))

    def forward(self, images: Tensor) -> list[Tensor]:
        (image,) = images
        height, width = image.shape[1:]
        patches = self.patch_embed.projection(F.pad(image, (0, -width % 4, 0, -height % 4))[None])[0]
        x = self.patch_embed.norm(patches.permute(1, 2, 0))
        maps = []
        for index, stage in enumerate(self.stages):
            for block in stage.blocks:
                x = block(x)
            maps.append(self.get_submodule(f"norm{index}")(x).permute(2, 0, 1)[None])
            if index < 3:
                x = stage.downsample(x)
        return maps


class EfficientAttention(nn.Module):
    def __init__(self, width: int, heads: int, ratio: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ratio = ratio
        if ratio > 1:
            self.sr = nn.Conv2d(width, width, ratio, ratio)
            self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        memory = x
        if self.ratio > 1:
            reduced = self.sr(x.transpose(1, 2).reshape(len(x), -1, *size))
            memory = self.norm(reduced.flatten(2).transpose(1, 2))
        query, memory = x.transpose(0, 1), memory.transpose(0, 1)
        return self.attn(query, memory, memory)[0].transpose(0, 1)


class MitBlock(nn.Module):
    def __init__(self, width: int, heads: int, ratio: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = EfficientAttention(width, heads, ratio)
        self.ffn = nn.Module()
        inner = 4 * width
        self.ffn.layers = nn.Sequential(
            nn.Conv2d(width, inner, 1),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
            nn.GELU(),
            nn.Identity(),
            nn.Conv2d(inner, width, 1),
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + self.attn(self.norm1(x), size)
        out = self.ffn.layers(self.norm2(x).transpose(1, 2).reshape(len(x), -1, *size))
        return x + out.flatten(2).transpose(1, 2)


class MitB0(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList()
        inside = 3
        settings = zip((32, 64, 160, 256), (1, 2, 5, 8), (8, 4, 2, 1), (7, 3, 3, 3), (4, 2, 2, 2), strict=True)
        for width, heads, ratio, kernel, stride in settings:
            embed = nn.Module()
            embed.projection = nn.Conv2d(inside, width, kernel, stride, kernel // 2)
            embed.norm = nn.LayerNorm(width, eps=1e-6)
            blocks = nn.ModuleList(MitBlock(width, heads, ratio) for _ in range(2))
            self.layers.append(nn.ModuleList([embed, blocks, nn.LayerNorm(width, eps=1e-6)]))
            inside = width

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for embed, blocks, norm in self.layers:
            x = embed.projection(x)
            size = x.shape[-2:]
            x = embed.norm(x.flatten(2).transpose(1, 2))
            for block in blocks:
                x = block(x, size)
            x = norm(x).transpose(1, 2).reshape(len(x), -1, *size)
            maps.append(x)
        return maps


class SegformerHead(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.convs = nn.ModuleList(ConvModule(width, 256, 1) for width in (32, 64, 160, 256))
        self.fusion_conv = ConvModule(4 * 256, 256, 1)
        self.conv_seg = nn.Conv2d(256, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        parts = [resized(conv(features), maps[0]) for conv, features in zip(self.convs, maps, strict=True)]
        return self.conv_seg(self.fusion_conv(torch.cat(parts, 1)))


class EncoderDecoder(nn.Module):
    """A network of the field: normalised images -> logits of the main and the auxiliary head, at the images' size."""

    def __init__(self, backbone: nn.Module, decode_head: nn.Module, auxiliary_head: nn.Module | None = None):
        super().__init__()
        self.backbone, self.decode_head = backbone, decode_head
        if auxiliary_head is not None:
            self.auxiliary_head = auxiliary_head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = self.backbone(images)
        auxiliary = resized(self.auxiliary_head(maps), images) if hasattr(self, "auxiliary_head") else None
        return resized(self.decode_head(maps), images), auxiliary


def resnet(head: type[nn.Module]) -> Callable[[int], EncoderDecoder]:
    return lambda classes: EncoderDecoder(ResNetV1c(True), head(classes), FCNHead(1024, classes))


WIDTHS = [96, 192, 384, 768]
REFERENCES: dict[str, Callable[[int], nn.Module]] = {
    "pspnet": resnet(PSPHead),
    "deeplabv3": resnet(ASPPHead),
    "deeplabv3plus": resnet(SeparableASPPHead),
    "segformer": lambda classes: EncoderDecoder(MitB0(), SegformerHead(classes)),
    "upernet-convnext": lambda classes: EncoderDecoder(
        ConvNeXt((3, 3, 9, 3), "depthwise_conv", "pointwise_conv", False),
        UPerHead(WIDTHS, classes),
        FCNHead(384, classes),
    ),
    "upernet-swin": lambda classes: EncoderDecoder(SwinTiny(), UPerHead(WIDTHS, classes), FCNHead(384, classes)),
    "upernet-resnet": lambda classes: EncoderDecoder(
        ResNetV1c(False), UPerHead([256, 512, 1024, 2048], classes), FCNHead(1024, classes)
    ),
    "sea-upernet": lambda classes: EncoderDecoder(
        ConvNeXt((3, 3, 9, 3), "dwconv", "pwconv", True),
        UPerHead(WIDTHS, classes, "batch_norm", "classifier"),
        FCNHead(384, classes, "batch_norm", "classifier"),
    ),
}


@pytest.fixture
def references() -> dict[str, Callable[[int], nn.Module]]:
    return REFERENCES
