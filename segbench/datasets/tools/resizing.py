"""Images, labels and depth at another size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from segbench.datasets.base import Size


def resized_images(images: Tensor, size: Size, *, antialias: bool = True) -> Tensor:
    """Resize images (..., 3, H, W), uint8 or float32, bilinearly with half-pixel centres.

    Args:
        images: on a processor where they are uint8.
        size: height and width.
        antialias: whether what becomes smaller is smoothed.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    batched = images.contiguous().view(-1, *images.shape[-3:])
    found = F.interpolate(batched, tuple(size), mode="bilinear", align_corners=False, antialias=antialias)
    return found.reshape(*images.shape[:-2], *size)


def resized_map(values: Tensor, size: Size) -> Tensor:
    """Resize labels or depth (H, W), uint8 or float32, to the nearest pixel centre."""
    return F.interpolate(values[None, None], tuple(size), mode="nearest-exact")[0, 0]
