"""Median filter of the input."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from segbench.defenses.base import defense
from segbench.defenses.tools.transforms import InputTransform
from segbench.model_zoo.base import Segmenter


@defense("median")
def median(segmenter: Segmenter, *, size: int = 3, aux_weight: float = 0.4, ignore_index: int = 255) -> InputTransform:
    """Median filter of the images at inference; the network is trained without a defense.

    Adaptive attacks break this defense, so compare the adaptive with the oblivious score. The adaptive attacker uses
    the filter's own gradient, which is nonzero at the pixels that are medians. The straight-through gradient would give
    a weaker attack.

    Args:
        segmenter: the network to train.
        size: side of the filter window in pixels, odd.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: `size` is even or less than 1.

    Source: Xu et al. 2018 (feature squeezing), section III, https://arxiv.org/abs/1704.01155.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"median: size must be odd and at least 1, got {size}")
    transform = partial(median_filter, size=size)
    return InputTransform(
        segmenter, transform=transform, stand_in=transform, aux_weight=aux_weight, ignore_index=ignore_index
    )


def median_filter(images: Tensor, size: int) -> Tensor:
    """Replace every value by the median of its window; the border is padded by repetition.

    Args:
        images: (N, 3, H, W).
        size: side of the window in pixels, odd.
    """
    margin = size // 2
    padded = F.pad(images, (margin, margin, margin, margin), mode="replicate")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)
    return windows.flatten(-2).median(-1).values
