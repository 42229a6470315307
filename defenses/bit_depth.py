"""Bit depth reduction of the input."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from segbench.defenses.base import defense
from segbench.defenses.tools.transforms import InputTransform
from segbench.model_zoo.base import Segmenter


@defense("bit-depth")
def bit_depth(
    segmenter: Segmenter, *, bits: int = 4, aux_weight: float = 0.4, ignore_index: int = 255
) -> InputTransform:
    """Rounding of the images to fewer bits at inference; the network is trained without a defense.

    Adaptive attacks break this defense, so compare the adaptive with the oblivious score. The adaptive attacker uses
    the straight-through gradient (BPDA).

    Args:
        segmenter: the network to train.
        bits: bits per colour value, 1 to 8.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: `bits` is not in 1 to 8.

    Source: Xu et al. 2018 (feature squeezing), section III, https://arxiv.org/abs/1704.01155.
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"bit-depth: bits must be 1 to 8, got {bits}")
    transform = partial(quantise, bits=bits)
    return InputTransform(segmenter, transform=transform, aux_weight=aux_weight, ignore_index=ignore_index)


def quantise(images: Tensor, bits: int) -> Tensor:
    """Round images to 2**bits evenly spaced values in [0, 1].

    Args:
        images: (N, 3, H, W) in [0, 1].
        bits: bits per colour value.
    """
    levels = float(2**bits - 1)
    return (images * levels).round() / levels
