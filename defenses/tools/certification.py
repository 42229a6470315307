"""Certified labels from votes under noise: tests of all pixels at once, and scores of what was certified."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segbench.defenses.base import ABSTAIN


def certified_radius(sigma: float, tau: float) -> float:
    """Return the L2 radius within which a class of probability above `tau` under the noise stays the first.

    Args:
        sigma: standard deviation of the noise, in [0, 1] units.
        tau: bound on the probability of the class, in [0.5, 1).

    Source: Cohen et al. 2019, theorem 1, https://arxiv.org/abs/1902.02918; Fischer et al. 2021, theorem 5.1.
    """
    return float(sigma * stats.norm.ppf(tau))


def certify_votes(
    picks: NDArray[np.int64], wins: NDArray[np.int64], *, samples: int, tau: float, alpha: float
) -> NDArray[np.int64]:
    """Return the picked label of every pixel that passes, `ABSTAIN` at the others.

    The hypothesis of a pixel is that its picked class has probability at most `tau` under the noise. With probability
    at least 1 - alpha no true hypothesis of the image is rejected.

    Args:
        picks: label of every pixel, (H, W), chosen from samples of their own.
        wins: how many of `samples` further samples had that label, (H, W).
        samples: number of those samples.
        tau: bound on the probability of the class, in [0.5, 1).
        alpha: probability that any label of the image is certified wrongly.

    Source: Fischer et al. 2021, algorithm 2, https://arxiv.org/abs/2107.00228.
    """
    p_values = stats.binom.sf(wins - 1, samples, tau)
    passed = holm(p_values.ravel(), alpha).reshape(picks.shape)
    return np.where(passed, picks, ABSTAIN)


def holm(p_values: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """Return which hypotheses are rejected, so that the chance of any false rejection is at most alpha.

    The k-th smallest of K p-values is compared with alpha / (K - k + 1); the first that exceeds it, and all larger
    ones, are kept.

    Args:
        p_values: (K,) in [0, 1].
        alpha: family-wise error rate.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = np.argsort(p_values, kind="stable")
    exceeds = p_values[order] > alpha / np.arange(len(p_values), 0, -1)
    rejected = np.zeros(len(p_values), dtype=bool)
    rejected[order] = ~np.logical_or.accumulate(exceeds)
    return rejected


def certified_scores(
    labels: NDArray[np.int64], truth: NDArray[np.int64], *, num_classes: int, ignore_index: int = 255
) -> dict[str, float]:
    """Return what the certificates are worth, in per cent; a pixel without one counts as wrong.

    Args:
        labels: certified labels, any shape, `ABSTAIN` where there is none.
        truth: true labels of the same shape.
        num_classes: number of classes; those absent from both sides have no part in the mean.
        ignore_index: label of void pixels.

    Returns:
        `certified_miou`, `certified_aacc` and `abstained`, over the valid pixels.
    """
    valid = truth != ignore_index
    labels, truth = labels[valid], truth[valid]
    true = np.bincount(truth, minlength=num_classes)
    given = np.bincount(labels[labels != ABSTAIN], minlength=num_classes)
    right = np.bincount(truth[labels == truth], minlength=num_classes)
    union = true + given - right
    present = union > 0
    count = max(len(truth), 1)
    return {
        "certified_miou": float(100 * np.mean(right[present] / union[present])) if present.any() else 0.0,
        "certified_aacc": float(100 * right.sum() / count),
        "abstained": float(100 * (labels == ABSTAIN).sum() / count),
    }
