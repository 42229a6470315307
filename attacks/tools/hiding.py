"""Objects to hide: which pixels they have, and what their surroundings say."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.attacks.tools.targets import Target, goal

Region = Literal["all", "object", "surroundings"] | Path | Tensor
"""Where pixels may change; a map or an image file of one allows it where it is not 0."""


def instances(masks: Tensor, source: Target | None, *, ignore_index: int = 255) -> Tensor:
    """Return the number of the object to hide that each pixel belongs to, (N, H, W) int64; 0 for none.

    Where `source` is a map, its values are the numbers. Otherwise an object's number is its class plus one, so that
    objects of one class share a number.

    Args:
        masks: (N, H, W).
        source: class whose objects are hidden; or a map of them, resized like a target, in which 0 is no object; or
            None for the objects of all classes.
        ignore_index: label of void pixels, which belong to no object.
    """
    valid = masks != ignore_index
    if source is None:
        return torch.where(valid, masks + 1, 0)
    if isinstance(source, int):
        return torch.where(valid & (masks == source), masks + 1, 0)
    return torch.where(valid, goal(masks, source, ignore_index=ignore_index), 0)


def surroundings(masks: Tensor, numbers: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Return the masks with every object painted over by what is around it, (N, H, W).

    A pixel of an object takes the label of the nearest pixel (in Euclidean distance) of another class that no object
    covers; where objects cover the whole image, of the nearest pixel of another class. It is void where there is none.

    Args:
        masks: (N, H, W).
        numbers: of `instances`.
        ignore_index: label of void pixels.

    Source: Metzen et al. 2017, section 3 (dynamic target), https://arxiv.org/abs/1704.05712.
    """
    painted = [
        _painted(mask, own > 0, ignore_index)
        for mask, own in zip(masks.cpu().numpy(), numbers.cpu().numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(painted)).to(masks)


def _painted(mask: NDArray[np.int64], hidden: NDArray[np.bool_], ignore_index: int) -> NDArray[np.int64]:
    painted, valid = mask.copy(), mask != ignore_index
    free = valid & ~hidden
    if not free.any():
        free = valid
    for label in np.unique(mask[hidden]):
        own, seen = hidden & (mask == label), free & (mask != label)
        if not seen.any():
            painted[own] = ignore_index
            continue
        rows, columns = scipy.ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
        painted[own] = mask[rows[own], columns[own]]
    return painted


def changeable(masks: Tensor, numbers: Tensor, region: Region, *, ignore_index: int = 255) -> Tensor:
    """Return the pixels that may change, (N, H, W) bool.

    Args:
        masks: (N, H, W).
        numbers: of `instances`.
        region: "all", the pixels of the "object", those of its "surroundings", or a map, resized like a target.
        ignore_index: label of void pixels.
    """
    if region == "all":
        return torch.ones_like(masks, dtype=torch.bool)
    if isinstance(region, str):
        return (numbers > 0) if region == "object" else (numbers == 0)
    # Void pixels may change as well where the map says so.
    nowhere_void = torch.full_like(masks, ignore_index - 1)
    return goal(nowhere_void, region, ignore_index=ignore_index) != 0
