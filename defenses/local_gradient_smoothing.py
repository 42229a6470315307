"""Local gradient smoothing: regions of strong edges, such as patches, are darkened."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.defenses.base import defense
from segbench.defenses.tools.transforms import InputTransform
from segbench.model_zoo.base import Segmenter


@defense("local-gradient-smoothing")
def local_gradient_smoothing(
    segmenter: Segmenter,
    *,
    block: int = 15,
    overlap: int = 5,
    threshold: float = 0.1,
    factor: float = 2.3,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> InputTransform:
    """Local gradient smoothing at inference, against patches; the network is trained without a defense.

    Pixels with strong edges are darkened, in those blocks of the image whose mean edge strength is high. A patch that
    was made without the defense is usually such a block. Adaptive attacks break this defense, so compare the adaptive
    with the oblivious score; the adaptive attacker uses the exact gradient of the smoothing.

    Args:
        segmenter: the network to train.
        block: side of a block in pixels.
        overlap: pixels by which neighbouring blocks overlap.
        threshold: mean edge strength, from 0 to 1, above which a block is smoothed.
        factor: darkening for each unit of edge strength.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: `block` is less than 1, `overlap` does not lie between 0 and `block` - 1, or `threshold` or `factor`
            is negative.

    Source: Naseer et al. 2019, https://arxiv.org/abs/1807.01216.
    """
    if not 0 <= overlap < block:
        raise ValueError(
            f"local-gradient-smoothing: overlap must be at least 0 and less than block, got {overlap} and {block}"
        )
    if threshold < 0 or factor < 0:
        raise ValueError(
            f"local-gradient-smoothing: threshold and factor must not be negative, got {threshold:g} and {factor:g}"
        )
    smooth = partial(smoothed, block=block, overlap=overlap, threshold=threshold, factor=factor)
    return InputTransform(
        segmenter, transform=smooth, stand_in=smooth, aux_weight=aux_weight, ignore_index=ignore_index
    )


def smoothed(images: Tensor, block: int, overlap: int, threshold: float, factor: float) -> Tensor:
    """Darken the pixels with strong edges in blocks with strong edges.

    Args:
        images: (N, 3, H, W) in [0, 1].
        block: side of a block in pixels.
        overlap: pixels by which neighbouring blocks overlap.
        threshold: mean edge strength above which a block is smoothed.
        factor: darkening for each unit of edge strength.
    """
    strength = edges(images)
    busy = busy_blocks(strength.detach(), block, block - overlap, threshold)
    return images * (1 - (factor * strength * busy).clamp(0, 1))


def edges(images: Tensor) -> Tensor:
    """Return the length of the grey image's gradient at every pixel, (N, 1, H, W), scaled to [0, 1] in each image."""
    grey = images.mean(1, keepdim=True)
    down = F.pad(grey.diff(dim=2), (0, 0, 0, 1))
    across = F.pad(grey.diff(dim=3), (0, 1))
    # The gradient of a root is infinite at 0.
    length = (down**2 + across**2 + 1e-12).sqrt()
    low, high = length.amin((2, 3), keepdim=True), length.amax((2, 3), keepdim=True)
    return (length - low) / torch.where(high > low, high - low, 1)


def busy_blocks(strength: Tensor, block: int, stride: int, threshold: float) -> Tensor:
    """Return the pixels that lie in a block whose mean strength exceeds a threshold, (N, 1, H, W) bool.

    Args:
        strength: (N, 1, H, W).
        block: side of a block; blocks at the right and lower border may be smaller.
        stride: distance of blocks.
        threshold: mean strength.
    """
    height, width = strength.shape[2:]
    missing = [-(length - block) % stride if length > block else block - length for length in (width, height)]
    outer = (0, missing[0], 0, missing[1])
    total = F.avg_pool2d(F.pad(strength, outer), block, stride)
    share = F.avg_pool2d(F.pad(torch.ones_like(strength), outer), block, stride)
    busy = (total > threshold * share).to(strength)
    spread = F.conv_transpose2d(busy, strength.new_ones(1, 1, block, block), stride=stride)
    return spread[..., :height, :width] > 0.5
