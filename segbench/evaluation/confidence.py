"""The confidence of every predicted label, counted in bins; `segbench.reports.metrics.confidence` says what of it."""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.evaluation.counting import counted
from segbench.reports.metrics.confidence import BINS, EDGES

_UNIT = 2.0**-24
"""Confidences are summed in these units: such sums are exact, and no order of the pixels changes their last bits."""


def confidence_bins(probabilities: Tensor, preds: Tensor, truth: Tensor, ignore_index: int) -> Tensor:
    """Count the pixels of one image in bins of their confidence, (4, 40); void counts nowhere.

    Args:
        probabilities: of every class, (C, H, W).
        preds: predicted labels (H, W): those whose probability is the confidence.
        truth: true labels (H, W).
        ignore_index: label of void pixels.
    """
    valid = truth != ignore_index
    true = torch.where(valid, truth, 0)
    top = probabilities.gather(0, preds[None])[0]
    brier = (probabilities.square().sum(0) - 2 * probabilities.gather(0, true[None])[0] + 1).clamp_min(0)
    bins = torch.bucketize(top, torch.from_numpy(EDGES).to(top), right=True)
    bins = torch.where(valid, bins, BINS).flatten()  # void has a bin of its own, which is dropped
    sums = [(row / _UNIT).double().round().flatten() for row in (top, brier)]
    pixels = counted(bins, BINS)
    right = counted(torch.where((preds == truth).flatten(), bins, BINS), BINS)
    counts = [pixels, right, *(counted(bins, BINS, row) * _UNIT for row in sums)]
    return torch.stack([row.double() for row in counts])
