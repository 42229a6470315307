"""Differentiable JPEG compression."""

from __future__ import annotations

import io
import math
from functools import cache

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Red, green and blue -> luma and two chromas (JFIF)."""


def smooth_jpeg(images: Tensor, quality: int) -> Tensor:
    """Approximate JPEG compression with a differentiable function.

    Chroma is at half resolution; the 8x8 cosine transforms are quantised with Pillow's tables for the given quality.
    Rounding is replaced by round(v) + (v - round(v))^3, whose value is close to round(v) and whose slope rises from 0
    at integers to 3/4 halfway between them.

    Args:
        images: (N, 3, H, W) in [0, 1].
        quality: 1 to 100.

    Source: Shin and Song 2017, JPEG-resistant Adversarial Images, NeurIPS workshop on machine learning and security.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images.float(), (0, -width % 16, 0, -height % 16), mode="replicate") * 255
    to_ycc = torch.tensor(TO_YCC, device=images.device)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, padded)
    luma_table, chroma_table = (table.to(images.device) for table in _tables(quality))
    luma = _quantised(ycc[:, :1] - 128, luma_table) + 128
    chroma = F.interpolate(_quantised(F.avg_pool2d(ycc[:, 1:], 2), chroma_table), scale_factor=2, mode="bilinear")
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), torch.cat([luma, chroma], 1))
    return (rgb[..., :height, :width] / 255).clamp(0, 1).to(images)


def _quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Quantise the cosine transforms of all 8x8 blocks; height and width must be multiples of 8."""
    count, channels, height, width = planes.shape
    cosines = _cosines().to(planes.device)
    blocks = planes.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = cosines @ blocks @ cosines.T / table
    whole = coefficients.detach().round()
    rounded = whole + (coefficients - whole) ** 3
    return (cosines.T @ (rounded * table) @ cosines).transpose(3, 4).reshape(planes.shape)


@cache
def _cosines() -> Tensor:
    """Return the orthonormal matrix of the 8-point cosine transform."""
    steps = torch.arange(8.0)
    matrix = torch.cos((2 * steps + 1) * steps.unsqueeze(1) * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


@cache
def _tables(quality: int) -> tuple[Tensor, Tensor]:
    """Return Pillow's quantisation tables for luma and chroma, 8x8 each."""
    with io.BytesIO() as file:
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file, formats=["JPEG"]) as image:
            tables = image.quantization  # type: ignore[attr-defined]
    luma, chroma = (torch.tensor(tables[key], dtype=torch.float32).view(8, 8) for key in (0, 1))
    return luma, chroma
