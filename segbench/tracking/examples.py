"""A kept image as one picture for a tracker: clean, attacked, their change, truth and prediction, side by side."""

from __future__ import annotations

import numpy as np

from segbench.reports.evidence import KeptImage
from segbench.reports.pictures import AMPLIFIED, Pixels, amplified, coloured, in_8_bit
from segbench.tracking.base import Example


def example(kept: KeptImage) -> Example:
    """Return the picture; of an image that was attacked in pieces, the first piece is shown."""
    image, adversarial = kept.images[0], kept.adversarial[0]
    panels = [
        in_8_bit(image),
        in_8_bit(adversarial),
        amplified(adversarial, image),
        coloured(kept.truth, kept.palette),
        coloured(kept.preds, kept.palette),
    ]
    caption = f"{kept.name}: clean, attacked, its change x {AMPLIFIED}, truth, prediction"
    return Example(kept.index, caption, _beside(panels))


def _beside(panels: list[Pixels]) -> Pixels:
    """Return pictures side by side, white below those that are lower."""
    height = max(panel.shape[0] for panel in panels)
    padded = [np.pad(p, ((0, height - len(p)), (0, 0), (0, 0)), constant_values=255) for p in panels]
    return np.concatenate(padded, axis=1)
