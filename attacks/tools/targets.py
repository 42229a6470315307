"""What a targeted attack asks for: one class everywhere, or a map of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

Target = int | Tensor | Path
"""A class; or labels, (H, W) for all images or (N, H, W); or an image file of labels, one byte a pixel."""


def goal(masks: Tensor, target: Target | None, *, ignore_index: int = 255) -> Tensor:
    """Return the labels that an attack's loss is taken of: those of its target, or without one the masks.

    Void pixels of the masks stay void, and void pixels of a map become so: the attack leaves them out.

    Args:
        masks: (N, H, W).
        target: what every valid pixel shall be given; a map of another size is brought to that of the masks by nearest
            neighbour.
        ignore_index: label of void pixels, in masks and maps alike.

    Raises:
        ValueError: a map is no map of labels, or has the wrong shape.
    """
    if target is None:
        return masks
    if isinstance(target, int):
        return masks.where(masks == ignore_index, target)
    labels = read_labels(target) if isinstance(target, Path) else target
    if labels.is_floating_point() or labels.ndim not in (2, 3) or (labels.ndim == 3 and len(labels) != len(masks)):
        raise ValueError(
            f"a target map must be whole numbers, (H, W) or ({len(masks)}, H, W), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}"
        )
    rows, columns = (_nearest(*sizes) for sizes in zip(labels.shape[-2:], masks.shape[-2:], strict=True))
    labels = labels.to(masks)[..., rows[:, None], columns]
    return masks.where(masks == ignore_index, labels)


def read_labels(file: Path) -> Tensor:
    """Return the labels in an image file, (H, W) int64: the byte of each pixel of a grey or palette image.

    Raises:
        ValueError: the file cannot be read, or has more than one byte a pixel.
    """
    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "P"):
                raise ValueError(
                    f"target {file}: labels need one byte a pixel (grey or palette), got mode {image.mode}"
                )
            return torch.from_numpy(np.array(image)).long()
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"target {file}: no readable image of labels ({error})") from error


def _nearest(size: int, wanted: int) -> Tensor:
    """Return for each of `wanted` places the nearest of `size`."""
    return ((torch.arange(wanted) + 0.5) * size / wanted).long()
