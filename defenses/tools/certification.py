"""Certified labels from votes under noise: simultaneous tests of all pixels, and scores of certified labels."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from segbench.defenses.base import ABSTAIN


def certified_radius(sigma: float, tau: float) -> float:
    """Return the L2 radius within which a class with probability above `tau` under noise stays the most likely one.

    Args:
        sigma: standard deviation of the noise, in [0, 1] units.
        tau: lower bound on the probability of the class, in [0.5, 1).

    Source: Cohen et al. 2019, theorem 1, https://arxiv.org/abs/1902.02918; Fischer et al. 2021, theorem 5.1.
    """
    return float(sigma * scipy.special.ndtri(tau))


def certify_votes(
    picks: NDArray[np.int64], wins: NDArray[np.int64], *, samples: int, tau: float, alpha: float
) -> NDArray[np.int64]:
    """Return the picked label at every pixel that passes its test, and `ABSTAIN` at the others.

    The null hypothesis of a pixel is that its picked class has a probability of at most `tau` under noise. With
    probability at least 1 - alpha, no true null hypothesis of these pixels is rejected.

    Args:
        picks: label of every pixel, (H, W), chosen from separate samples.
        wins: number of `samples` further samples that predict this label, (H, W).
        samples: number of further samples.
        tau: lower bound on the probability of the class, in [0.5, 1).
        alpha: probability that any of these labels is certified wrongly.

    Source: Fischer et al. 2021, algorithm 2, https://arxiv.org/abs/2107.00228.
    """
    p_values = scipy.special.bdtrc(wins - 1, samples, tau)
    passed = holm(p_values.ravel(), alpha).reshape(picks.shape)
    return np.where(passed, picks, ABSTAIN)


def holm(p_values: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """Return which hypotheses Holm's procedure rejects; the probability of any false rejection is at most alpha.

    The k-th smallest of K p-values is compared with alpha / (K - k + 1). The first one that exceeds its threshold and
    all larger ones are not rejected.

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
