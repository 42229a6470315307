"""Kept images as PNG: clean, attacked, their change, truth, prediction and what of it is wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from segbench.reports.evidence import KeptImage
from segbench.reports.pictures import Pixels, amplified, coloured, in_8_bit, wrong

LARGEST_FACTOR = 255.0

KINDS: dict[str, Callable[[KeptImage, int, float], Pixels]] = {
    "clean": lambda kept, piece, factor: in_8_bit(kept.images[piece]),
    "attacked": lambda kept, piece, factor: in_8_bit(kept.adversarial[piece]),
    "change": lambda kept, piece, factor: amplified(kept.adversarial[piece], kept.images[piece], factor),
    "truth": lambda kept, piece, factor: coloured(kept.truth, kept.palette),
    "prediction": lambda kept, piece, factor: coloured(kept.preds, kept.palette),
    "wrong": lambda kept, piece, factor: wrong(kept.preds, kept.truth, len(kept.palette)),
}
"""What can be seen of a kept image: image, piece and factor -> pixels (H, W, 3)."""


def png(kept: KeptImage, kind: str, piece: int = 0, factor: float = 10.0, side: int | None = None) -> bytes:
    """Return a picture of a kept image as a PNG file.

    Args:
        kept: the image.
        kind: one of `KINDS`.
        piece: which piece of an image that was attacked in pieces; the last one where there are fewer.
        factor: by which a change is enlarged, at most `LARGEST_FACTOR`.
        side: pixels of the longer side; None for the image's own size.
    """
    piece = max(0, min(piece, len(kept.adversarial) - 1))
    pixels: Any = KINDS[kind](kept, piece, max(0.0, min(factor, LARGEST_FACTOR)))
    image = Image.fromarray(pixels)
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
