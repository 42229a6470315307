"""Targets of targeted attacks: one class for all pixels, or a label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

Target = int | Tensor | Path
"""A class index; or a label map, (H, W) for all images or (N, H, W); or an image file of labels, one byte per pixel."""


def goal(masks: Tensor, target: Target | None, *, ignore_index: int = 255) -> Tensor:
    """Return the labels for an attack's loss: those of the target, or the masks if there is no target.

    A pixel that is void in the masks or in the target map is void in the result, and the attack ignores it.

    Args:
        masks: (N, H, W).
        target: class or label map that the attack drives the prediction towards. A map of another size is resized to
            the size of the masks by nearest neighbour.
        ignore_index: label of void pixels, in the masks and in the target map.

    Raises:
        ValueError: the target map does not hold integers, or has the wrong shape.
    """
    if target is None:
        return masks
    if isinstance(target, int):
        return masks.where(masks == ignore_index, target)
    labels = read_labels(target) if isinstance(target, Path) else target
    if labels.is_floating_point() or labels.ndim not in (2, 3) or (labels.ndim == 3 and len(labels) != len(masks)):
        raise ValueError(
            f"a target map must hold integers and have shape (H, W) or ({len(masks)}, H, W), got {labels.dtype} of "
            f"shape {tuple(labels.shape)}"
        )
    rows, columns = (_nearest(*sizes) for sizes in zip(labels.shape[-2:], masks.shape[-2:], strict=True))
    labels = labels.to(masks)[..., rows[:, None], columns]
    return masks.where(masks == ignore_index, labels)


def read_labels(file: Path) -> Tensor:
    """Read a label map from a grey or palette image file, (H, W) int64: the label of a pixel is its byte.

    Raises:
        ValueError: the file is not readable, or has more than one byte per pixel.
    """
    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "P"):
                raise ValueError(
                    f"target {file}: a label map has one byte per pixel (grey or palette), got mode {image.mode}"
                )
            return torch.from_numpy(np.array(image)).long()
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"target {file}: cannot read this image ({error})") from error


def _nearest(size: int, wanted: int) -> Tensor:
    """Return, for each of `wanted` pixels along an axis, the index of the nearest of `size` pixels."""
    return ((torch.arange(wanted) + 0.5) * size / wanted).long()
