"""Resizing and windows, shared by protocols: what their definitions rest on, to the pixel."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.datasets.base import VOID
from segbench.model_zoo.base import IMAGENET_MEAN
from segbench.protocols.base import Size


def unit(image: Tensor) -> Tensor:
    """Return an image as float32 in [0, 1]; uint8 is divided by 255."""
    return image.float() if image.is_floating_point() else image.float() / 255


def resize_image(image: Tensor, size: Size) -> Tensor:
    """Resize an image (3, H, W), uint8 or in [0, 1], as `resize` does; rounding does not leave [0, 1]."""
    return resize(unit(image), size).clamp(0, 1)


def resize(values: Tensor, size: Size) -> Tensor:
    """Resize (..., C, H, W) floats bilinearly: half-pixel centres, no antialiasing, as OpenCV's INTER_LINEAR."""
    if tuple(values.shape[-2:]) == size:
        return values
    batched = values if values.ndim == 4 else values[None]
    resized = F.interpolate(batched, size, mode="bilinear", align_corners=False)
    return resized if values.ndim == 4 else resized[0]


def resize_mask(mask: Tensor, size: Size) -> Tensor:
    """Resize labels (H, W) to the nearest pixel towards the origin, as OpenCV's INTER_NEAREST."""
    rows, columns = (_nearest(have, want) for have, want in zip(mask.shape, size, strict=True))
    return mask[rows[:, None], columns]


def _nearest(have: int, want: int) -> Tensor:
    # In float64 and by two divisions, as OpenCV computes it: a product that should be whole can fall just short.
    step = 1 / (want / have)
    index = np.floor(np.arange(want) * step).astype(np.int64)
    return torch.from_numpy(np.minimum(index, have - 1))


def pad_image(images: Tensor, size: Size, offset: Size) -> Tensor:
    """Place images (..., 3, H, W) on a canvas of the mean colour.

    Args:
        images: images in [0, 1]; their values do not change.
        size: height and width of the canvas.
        offset: rows above and columns left of the images.
    """
    (top, left), (height, width) = offset, images.shape[-2:]
    canvas = images.new_tensor(IMAGENET_MEAN).view(3, 1, 1).expand(*images.shape[:-2], *size).clone()
    canvas[..., top : top + height, left : left + width] = images
    return canvas


def pad_mask(mask: Tensor, size: Size, offset: Size) -> Tensor:
    """Place a mask (H, W) on a canvas of void; see `pad_image`."""
    (top, left), (height, width) = offset, mask.shape
    canvas = mask.new_full(size, VOID)
    canvas[top : top + height, left : left + width] = mask
    return canvas


def windows(size: Size, window: Size, stride: Size) -> list[Size]:
    """Return the top left corners of windows that cover an area, row by row; the last ones end at its border.

    Args:
        size: height and width of the area, at least those of the window.
        window: height and width of a window.
        stride: distance of windows in rows and columns.
    """
    starts = [
        [min(step * index, length - side) for index in range(math.ceil((length - side) / step) + 1)]
        for length, side, step in zip(size, window, stride, strict=True)
    ]
    return [(top, left) for top in starts[0] for left in starts[1]]
