"""The confidence of every predicted label, counted in bins; `segbench.reports.metrics.confidence` says what of it."""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.evaluation.counting import counted, numbered
from segbench.reports.metrics.confidence import BINS, COARSE

_UNIT = 2.0**-24
"""Confidences are summed in these units: such sums are exact, and no order of the pixels changes their last bits."""
_FINEST = BINS - COARSE
"""Bins from 0.95 on, beyond the first of them."""


def confidence_bins(probabilities: Tensor, preds: Tensor, truth: Tensor, ignore_index: int) -> Tensor:
    """Count the pixels of each image in bins of their confidence, (N, 4, 40); void counts nowhere.

    Args:
        probabilities: of every class, (N, C, H, W) float32.
        preds: predicted labels (N, H, W): those of the largest probability.
        truth: true labels (N, H, W).
        ignore_index: label of void pixels.
    """
    valid = truth != ignore_index
    true = torch.where(valid, truth, 0)
    top = probabilities.amax(1)
    brier = (probabilities.square().sum(1) - 2 * probabilities.gather(1, true[:, None])[:, 0] + 1).clamp_min(0)
    bins = torch.where(valid, bins_of(top), BINS)  # void has a bin of its own, which is dropped
    bins += numbered(bins) * (BINS + 1)
    size = len(bins) * (BINS + 1)
    pixels = counted(bins * 2 + (preds == truth), 2 * size).view(-1, BINS + 1, 2)
    sums = [counted(bins, size, (row / _UNIT).round().double()) * _UNIT for row in (top, brier)]
    rows = [pixels.sum(2), pixels[..., 1], *(row.view(-1, BINS + 1) for row in sums)]
    return torch.stack([row.double() for row in rows], 1)[..., :BINS]


def bins_of(confidences: Tensor) -> Tensor:
    """Return the bin of each confidence, int32: the number of `EDGES` that it reaches, as they round to float32.

    A search among the edges takes ten times as long. The bins from 0.95 on begin where what is left to 1 falls below a
    power of 2, in units of 0.05, which its exponent tells. Half a step of float32 decides at the edges.

    Args:
        confidences: float32.
    """
    coarse = (confidences.double() * (COARSE * (1 + 3.9e-8))).int().clamp(0, COARSE - 1)
    left = (1 - confidences - 2.0**-25) * COARSE
    return coarse + (126 - (left.view(torch.int32) >> 23)).clamp(0, _FINEST)
