"""Counts on the device where the labels are, which nobody waits for until they are fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def counted(labels: Tensor, size: int, weights: Tensor | None = None) -> Tensor:
    """Count each of the labels 0..size - 1, or add up its weights; the label `size` is left out, (size,).

    Args:
        labels: whole numbers of any shape, from 0 to `size`.
        size: number of labels.
        weights: one for each label.
    """
    labels = labels.flatten()
    if labels.device.type == "cpu":
        return torch.bincount(labels, None if weights is None else weights.flatten(), minlength=size + 1)[:size]
    # On a GPU, bincount waits for the largest label.
    labels = labels.long()
    ones = torch.ones_like(labels) if weights is None else weights.flatten()
    return torch.zeros(size + 1, dtype=ones.dtype, device=labels.device).scatter_add_(0, labels, ones)[:size]


def pixels(preds: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count each of some images on the device: intersections, predicted and true pixels of every class, (N, 3, C).

    Args:
        preds: predicted labels (N, ...), known to be classes.
        truth: true labels (N, ...), known to be classes or void.
        num_classes: number of classes C.
        ignore_index: label of void pixels.
    """
    valid = truth != ignore_index
    predicted = tabled(torch.where(valid, preds, num_classes), preds == truth, num_classes, 2)
    true = tabled(torch.where(valid, truth, num_classes), valid, num_classes, 2)
    return torch.stack([predicted[..., 1], predicted.sum(2), true[..., 1]], 1)


def tabled(labels: Tensor, kinds: Tensor, num_classes: int, num_kinds: int) -> Tensor:
    """Count the pixels of each image by label and kind, (N, C, K).

    Args:
        labels: (N, ...), from 0 to C; the label C is left out.
        kinds: of each pixel, from 0 to K - 1.
        num_classes: number of classes C.
        num_kinds: number of kinds K.
    """
    images = numbered(labels) * (num_classes + 1)
    bins = (labels.int() + images) * num_kinds + kinds
    return counted(bins, len(labels) * (num_classes + 1) * num_kinds).view(-1, num_classes + 1, num_kinds)[:, :-1]


def numbered(values: Tensor) -> Tensor:
    """Return the number of each image, of a shape that goes with its values, (N, 1, ...)."""
    return torch.arange(len(values), dtype=torch.int32, device=values.device).view(-1, *[1] * (values.dim() - 1))


def small(labels: Tensor, where: Tensor, num_classes: int) -> Tensor:
    """Return some of the labels, and C elsewhere, in the smallest type that holds them.

    Args:
        labels: from 0 to C - 1 where they are taken.
        where: which are taken.
        num_classes: number of classes C.
    """
    return torch.where(where, labels, num_classes).to(torch.uint8 if num_classes <= 255 else torch.int32)


def fetched(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Bring tensors to the host, with one copy for all of a type that are on a device."""
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return [tensor.numpy() for tensor in tensors]
    arrays: dict[int, NDArray[Any]] = {}
    kinds = [(tensor.device, tensor.dtype) for tensor in tensors]  # certificates are on the host already
    for kind in dict.fromkeys(kinds):
        places = [place for place, own in enumerate(kinds) if own == kind]
        flat = torch.cat([tensors[place].flatten() for place in places]).cpu().numpy()
        ends = np.cumsum([tensors[place].numel() for place in places])
        for place, own in zip(places, np.split(flat, ends[:-1]), strict=True):
            arrays[place] = own.reshape(tensors[place].shape)
    return [arrays[place] for place in range(len(tensors))]
