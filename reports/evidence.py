"""Evidence: data behind the records, such as counts per image. A report works without it, and shows more with it."""

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
    """One image of an evaluation, stored with its attacked version and its predicted labels.

    Attributes:
        index: the image's position in the split.
        name: the image's name in the split.
        palette: a colour per class, (C, 3) in 0..255.
        images: the clean pieces, (K, h, w, 3) in 0..65535; K is 1 unless the protocol cuts images into pieces.
        adversarial: the attacked pieces, in the format of `images`.
        truth: (H, W) true labels; a label of C or more is void.
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
    """Measurements of a network on a few images, made by `segbench.evaluation.probes.measure`.

    Attributes:
        zero_loss: share of the correctly predicted pixels whose cross-entropy is exactly zero.
        zero_gradient: share of the images whose input gradient is exactly zero everywhere.
        difference: largest difference between the logits of two forward passes, as a share of the largest logit.
        optimises: the network computes gradients, or changes parameters or buffers, while it predicts in eval mode.
        trajectory: mean cross-entropy at the iterates of an attack, from its start on; empty where none was watched.
        by_scale: pixel accuracy under BIM, in per cent, by the factor that multiplies the logits; may be empty.
        at_large_eps: mIoU under C&W at a large eps, in per cent; None where it was not tried.
        doubts: names of the flags that the check of the input gradient raises.
        rise: lowest rise of the loss by a small step along the gradient's sign, over the rise that the gradient
            predicts; None where it was not measured.
        beside_another: largest difference between the logits of an image alone and beside another one, as a share of
            the largest logit.
        images: number of images that the gradient was checked on.
        passes: images that went forward and backward for all this, together; None where they were not counted.
    """

    zero_loss: float
    zero_gradient: float
    difference: float
    optimises: bool
    trajectory: tuple[float, ...]
    by_scale: Mapping[float, float]
    at_large_eps: float | None
    doubts: tuple[str, ...] = ()
    rise: float | None = None
    beside_another: float = 0.0
    images: int = 0
    passes: int | None = None


@dataclass(frozen=True)
class Evidence:
    """Functions that find the data behind a record.

    Attributes:
        counts: digest of an evaluation -> its counts per image, (N, 3, C), or None.
        parts: digest of an evaluation -> the counts of each attack in it, each (N, 3, C). An ensemble has several
            attacks; the result is empty where the counts are gone.
        history: digest of a training -> its history, a CSV file with one row per epoch, or None.
        kept: digest of an evaluation -> its stored images.
        measured: digest of a network -> its measurements, or None.
    """

    counts: Callable[[str], NDArray[np.int64] | None] = _none
    parts: Callable[[str], Sequence[NDArray[np.int64]]] = _nothing
    history: Callable[[str], Path | None] = _none
    kept: Callable[[str], Sequence[KeptImage]] = _nothing
    measured: Callable[[str], Measurements | None] = _none


NOTHING = Evidence()
"""No evidence: the report uses only the records."""
