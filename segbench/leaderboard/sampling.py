"""Checks of the sampled images of a bundle: are they within the budget, and do predictions agree with the counts?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from segbench.attacks.base import Norm
from segbench.attacks.tools.budget import distance
from segbench.datasets.base import VOID
from segbench.errors import CellError
from segbench.evaluation.tally import confusion
from segbench.leaderboard.bundled import Evaluation, Shown

LEVELS = 65535
"""Number of steps of a 16-bit image in [0, 1]; rounding moves a value by at most half a step."""


def examine(own: Evaluation) -> Iterator[str]:
    """Yield the problems with the sampled images of an evaluation.

    Args:
        own: the evaluation.
    """
    for shown in own.sample:
        yield from (f"{shown.where}: {text}" for text in (*_moved(own, shown), *_predicted(own, shown)))


def _moved(own: Evaluation, shown: Shown) -> Iterator[str]:
    """Yield the pieces that lie further from their clean images than eps; 16-bit images cannot leave [0, 1]."""
    norm, eps = own.record.threat.norm, own.record.threat.eps
    if eps is None or norm not in get_args(Norm):
        return
    clean, adversarial = (_unit(pixels) for pixels in (shown.clean, shown.adversarial))
    rounding = 1 / LEVELS * (clean[0].numel() ** 0.5 if norm == "l2" else 1)
    known: Any = norm
    for piece, length in enumerate(distance(adversarial, clean, known).tolist()):
        if length > eps + rounding:
            yield f"adversarial-{piece}.png is {norm} {length:.6g} away from its clean image, more than eps {eps:.6g}"


def _predicted(own: Evaluation, shown: Shown) -> Iterator[str]:
    """Yield where predictions disagree with the counts of the image; an ensemble has those of its strongest part."""
    if shown.index >= len(own.counts):
        yield f"there is no image {shown.index} among {len(own.counts)}"
        return
    classes = own.counts.shape[2]
    if int(shown.preds.max()) >= classes:
        yield f"preds.png holds label {int(shown.preds.max())}, but there are {classes} classes"
        return
    preds, truth = (torch.from_numpy(labels.astype(np.int64)) for labels in (shown.preds, shown.truth))
    try:
        found = confusion(preds, truth, classes, VOID)
    except CellError as error:
        yield f"truth: {error}"
        return
    rows = [part[shown.index] for part in own.parts or (own.counts,)]
    wanted = min(rows, key=lambda row: int(row[0].sum()))
    if not np.array_equal(found[2], wanted[2]):
        yield "truth.png does not have the true pixels that are counted for it"
    elif not np.array_equal(found, wanted):
        yield "preds.png does not have the predicted and right pixels that are counted for it"


def _unit(pixels: NDArray[np.uint16]) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float64) / LEVELS).permute(0, 3, 1, 2)
