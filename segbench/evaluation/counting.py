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
        labels: int64, of any shape, from 0 to `size`.
        size: number of labels.
        weights: one for each label.
    """
    labels = labels.flatten()
    if labels.device.type == "cpu":
        return torch.bincount(labels, None if weights is None else weights.flatten(), minlength=size + 1)[:size]
    # On a GPU, bincount waits for the largest label.
    ones = torch.ones_like(labels) if weights is None else weights.flatten()
    return torch.zeros(size + 1, dtype=ones.dtype, device=labels.device).scatter_add_(0, labels, ones)[:size]


def fetched(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Bring tensors to the host, with one copy for all of a type."""
    arrays: dict[int, NDArray[Any]] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        flat = torch.cat([tensors[place].flatten() for place in places]).cpu().numpy()
        ends = np.cumsum([tensors[place].numel() for place in places])
        for place, own in zip(places, np.split(flat, ends[:-1]), strict=True):
            arrays[place] = own.reshape(tensors[place].shape)
    return [arrays[place] for place in range(len(tensors))]
