"""What lies behind records, where it is at hand: a report is whole without it, and says more with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

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


class Measured(Protocol):
    """What was measured of a network to see whether attacks on it are to be believed."""

    @property
    def zero_loss(self) -> float:
        """Share of the right pixels whose loss is exactly zero."""

    @property
    def zero_gradient(self) -> float:
        """Share of the images whose input gradient is exactly zero."""

    @property
    def trajectory(self) -> Sequence[float]:
        """Mean loss of clean images and of each step of an attack."""

    @property
    def by_scale(self) -> Mapping[float, float]:
        """Pixel accuracy under attack, in per cent, by the factor on the logits."""

    @property
    def at_large_eps(self) -> float:
        """mIoU, in per cent, under an attack so large that nothing should be left."""


@dataclass(frozen=True)
class Evidence:
    """Where a report finds more than records.

    Attributes:
        counts: digest of an evaluation -> its counts per image, (N, 3, C), or None.
        history: digest of a training -> its history, a CSV file with a row per epoch, or None.
        kept: digest of an evaluation -> the images of it that were kept.
        measured: digest of a network -> what was measured of it, or None.
        flags: name of a flag -> what it says, as the end of a sentence.
    """

    counts: Callable[[str], NDArray[np.int64] | None] = _none
    history: Callable[[str], Path | None] = _none
    kept: Callable[[str], Sequence[KeptImage]] = _nothing
    measured: Callable[[str], Measured | None] = _none
    flags: Mapping[str, str] = field(default_factory=dict)
