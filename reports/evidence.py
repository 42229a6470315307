"""What lies behind records, where it is at hand: a report is whole without it, and says more with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def _none(digest: str) -> None:
    return None


def _nothing(digest: str) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class KeptImage:
    """An image of an evaluation that was kept as it was attacked and predicted.

    Attributes:
        index: its place in the split.
        name: its name there.
        palette: a colour per class, (C, 3) in 0..255.
        images: the pieces that were attacked, (K, h, w, 3) in 0..65535; one piece where the protocol does not cut.
        adversarial: the attacked pieces, as `images`.
        truth: (H, W) true labels; those outside 0..C-1 are void.
        preds: (H, W) predicted labels.
    """

    index: int
    name: str
    palette: NDArray[np.uint8]
    images: NDArray[np.uint16]
    adversarial: NDArray[np.uint16]
    truth: NDArray[np.uint8]
    preds: NDArray[np.uint8]


@dataclass(frozen=True)
class Measurements:
    """What `segbench.evaluation.probes.measure` finds out about a network on a few images.

    Attributes:
        zero_loss: share of the right pixels whose cross-entropy is exactly zero.
        zero_gradient: share of the images whose input gradient is exactly zero everywhere.
        difference: largest difference between two forward passes, as a share of the largest logit.
        optimises: it takes gradients, or changes parameters or buffers, while it predicts in eval mode.
        trajectory: mean cross-entropy of the clean images and of each iterate of BIM.
        by_scale: pixel accuracy, in per cent, that BIM leaves when the logits are multiplied by each factor.
        at_large_eps: mIoU, in per cent, that C&W leaves at a large eps.
    """

    zero_loss: float
    zero_gradient: float
    difference: float
    optimises: bool
    trajectory: tuple[float, ...]
    by_scale: Mapping[float, float]
    at_large_eps: float


@dataclass(frozen=True)
class Evidence:
    """Where a report finds more than records.

    Attributes:
        counts: digest of an evaluation -> its counts per image, (N, 3, C), or None.
        parts: digest of an evaluation -> the counts of every attack that it holds, each (N, 3, C); none where unknown.
        history: digest of a training -> its history, a CSV file with a row per epoch, or None.
        kept: digest of an evaluation -> the images of it that were kept.
        measured: digest of a network -> what was measured of it, or None.
    """

    counts: Callable[[str], NDArray[np.int64] | None] = _none
    parts: Callable[[str], Sequence[NDArray[np.int64]]] = _nothing
    history: Callable[[str], Path | None] = _none
    kept: Callable[[str], Sequence[KeptImage]] = _nothing
    measured: Callable[[str], Measurements | None] = _none


NOTHING = Evidence()
"""Records alone."""
