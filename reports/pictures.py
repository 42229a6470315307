"""Kept images as pixels to look at: images and their change in 8 bits, label maps in colours, wrong pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

AMPLIFIED = 10
"""Factor by which the shown perturbation is enlarged."""


def coloured(labels: Pixels, palette: Pixels) -> Pixels:
    """Return a label map (H, W) in the colours of a palette (C, 3); void is white."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = palette
    return table[labels]


def amplified(adversarial: NDArray[np.uint16], image: NDArray[np.uint16], factor: float = AMPLIFIED) -> Pixels:
    """Return the enlarged difference of two images in 0..65535 as an image in 0..255; equal pixels are grey.

    Args:
        adversarial: the attacked image, (H, W, 3).
        image: the clean image, (H, W, 3).
        factor: by which the difference is enlarged.
    """
    change = (adversarial.astype(np.float64) - image.astype(np.float64)) / 257
    return np.clip(128 + factor * change, 0, 255).round().astype(np.uint8)


def in_8_bit(image: NDArray[np.uint16]) -> Pixels:
    """Return an image in 0..65535 as one in 0..255."""
    return (image / 257).round().astype(np.uint8)


def wrong(preds: Pixels, truth: Pixels, num_classes: int) -> Pixels:
    """Return an image (H, W, 3) in 0..255 of the wrong pixels: red where wrong, grey where right, white where void.

    Args:
        preds: predicted labels (H, W).
        truth: true labels (H, W); a label of `num_classes` or more is void.
        num_classes: number of classes.
    """
    table = np.array([[205, 209, 214], [190, 40, 30], [255, 255, 255]], np.uint8)
    return table[np.where(truth >= num_classes, 2, preds != truth)]
