"""What lies behind records, where it is at hand: a report is whole without it, and says more with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def _none(digest: str) -> None:
    return None


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
class Example:
    """One image, and what networks made of it.

    Attributes:
        name: name of the sample.
        palette: a colour per class, (C, 3) in 0..255.
        image: (H, W, 3) uint8.
        mask: (H, W) true labels; those outside 0..C-1 are void.
        adversarial: by the digest of an evaluation, the attacked image (H, W, 3) uint8.
        preds: by the digest of an evaluation, predicted labels (H, W).
    """

    name: str
    palette: NDArray[np.uint8]
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    adversarial: dict[str, NDArray[np.uint8]]
    preds: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Evidence:
    """Where a report finds more than records.

    Attributes:
        counts: digest of an evaluation -> its counts per image, (N, 3, C), or None.
        history: digest of a training -> its history, a CSV file with a row per epoch, or None.
        examples: images with predictions, in the order in which they are shown.
    """

    counts: Callable[[str], NDArray[np.int64] | None] = _none
    history: Callable[[str], Path | None] = _none
    examples: Sequence[Example] = ()
