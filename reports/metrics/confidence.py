"""Are confident pixels right? Calibration and ranking, from bins of the confidence of the predicted label.

Counts are (N, 4, 40): for each image and bin the number of valid pixels, how many of them are right, the sum of their
confidences, and the sum of their Brier scores. The confidence of a pixel is the probability of the label that is
predicted for it. The first 19 bins are 0.05 wide, and the last 21 divide the range from 0.95 to 1, each half as wide as
the one before it: most pixels of a trained network lie there, and the order of pixels needs them apart. Calibration is
measured on 20 bins of 0.05: the last 21 count as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROWS = 4
"""Pixels, right pixels, summed confidences, summed Brier scores."""
COARSE = 20
"""Bins of calibration, each 0.05 wide."""
EDGES = np.array([*(k / COARSE for k in range(1, COARSE)), *(1 - 0.05 / 2**k for k in range(1, 21))])
"""Confidences that divide the bins; a confidence at an edge lies in the upper bin."""
BINS = len(EDGES) + 1


def reliability(counts: NDArray[Any]) -> Floats:
    """Return pixels, right pixels and summed confidences of the 20 bins of calibration, (3, 20).

    Args:
        counts: (N, 4, 40).
    """
    total = counts[:, :3].sum(0).astype(np.float64)
    return np.concatenate([total[:, : COARSE - 1], total[:, COARSE - 1 :].sum(1, keepdims=True)], 1)


def ece(counts: NDArray[Any]) -> float:
    """Return the expected calibration error, in [0, 1]: the mean over pixels of |accuracy - confidence| of their bin.

    Args:
        counts: (N, 4, 40).

    Source: Guo et al. 2017, equation 3, https://arxiv.org/abs/1706.04599, with 20 bins
    """
    pixels, right, confidence = reliability(counts)
    return _ratio(np.abs(right - confidence).sum(), pixels.sum())


def mce(counts: NDArray[Any]) -> float:
    """Return the maximum calibration error, in [0, 1]: the largest |accuracy - confidence| of a bin with pixels.

    Args:
        counts: (N, 4, 40).

    Source: Guo et al. 2017, equation 5, https://arxiv.org/abs/1706.04599, with 20 bins
    """
    pixels, right, confidence = reliability(counts)
    some = pixels > 0
    return float((np.abs(right - confidence)[some] / pixels[some]).max()) if some.any() else np.nan


def brier(counts: NDArray[Any]) -> float:
    """Return the Brier score, in [0, 2]: the mean over pixels of the squared distance of probabilities from the truth.

    Args:
        counts: (N, 4, 40).

    Source: Brier 1950, equation 2, https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """
    return _ratio(counts[:, 3].sum(), counts[:, 0].sum())


def auroc_error(counts: NDArray[Any]) -> float:
    """Return the area under the ROC curve of "a wrong pixel is less confident than a right one", in [0, 1].

    It is 0.5 for a confidence that tells nothing; pixels of one bin count as equally confident. NaN where all pixels
    are right, or all are wrong.

    Args:
        counts: (N, 4, 40).

    Source: Hendrycks and Gimpel 2017, section 2, https://arxiv.org/abs/1610.02136
    """
    right, wrong = _right_and_wrong(counts)
    below = np.concatenate([[0.0], np.cumsum(wrong)[:-1]])
    return _ratio(float((right * (below + wrong / 2)).sum()), right.sum() * wrong.sum())


def aurc(counts: NDArray[Any]) -> float:
    """Return the area under the risk-coverage curve, in [0, 1]: the share of wrong pixels, averaged over coverages.

    Within a bin, the value is the expectation over all orders of its pixels.

    Args:
        counts: (N, 4, 40).

    Source: Geifman et al. 2019, section 2, https://arxiv.org/abs/1805.08206
    """
    right, wrong = (row[::-1] for row in _right_and_wrong(counts))
    pixels = right + wrong
    if not pixels.any():
        return np.nan
    right, wrong, pixels = right[pixels > 0], wrong[pixels > 0], pixels[pixels > 0]
    before = np.cumsum(pixels) - pixels
    wrong_before = np.cumsum(wrong) - wrong
    # Pixel j of m in a bin of share e is kept with K + j pixels, E + j e of them wrong; the sum over j has this form.
    harmonic = scipy.special.digamma(before + pixels + 1) - scipy.special.digamma(before + 1)
    total = wrong + (wrong_before - wrong / pixels * before) * harmonic
    return float(total.sum() / pixels.sum())


def _right_and_wrong(counts: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the right and the wrong pixels of every bin, the least confident first."""
    pixels, right = counts[:, :2].sum(0).astype(np.float64)
    return right, pixels - right


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else np.nan
