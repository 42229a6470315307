"""Networks that answer with label maps: what counts as one, and how it becomes scores that everything else takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segbench.errors import CellError

MOST_CLASSES = 256
"""Classes of a network of which nobody says how many it has."""


def holds_labels(answer: Tensor) -> bool:
    """Whether an answer is a label map: whole numbers (N, H, W), (N, 1, H, W) or (N, H, W, 1)."""
    whole = not (answer.is_floating_point() or answer.is_complex())
    return whole and (answer.ndim == 3 or (answer.ndim == 4 and 1 in (answer.shape[1], answer.shape[3])))


def as_scores(
    answer: Tensor, count: int, num_classes: int | None, groups: Sequence[Sequence[int]] | None, name: str
) -> Tensor:
    """Return scores (N, C, H, W) of a label map: 1 for the class of a pixel, 0 for all others.

    Args:
        answer: labels (N, H, W), (N, 1, H, W) or (N, H, W, 1), of any type.
        count: images N.
        num_classes: classes C of the dataset; None where they are not known.
        groups: for each of them the network's labels that mean it; None where they are the same.
        name: the network's name in errors.

    Raises:
        CellError: the answer is no label map, or a label means no class of the dataset.
    """
    if answer.ndim == 4 and 1 in (answer.shape[1], answer.shape[3]):
        answer = answer.squeeze(1 if answer.shape[1] == 1 else 3)
    if answer.ndim != 3 or len(answer) != count:
        raise CellError(
            f"{name} returns labels {tuple(answer.shape)} for {count} image(s); expected a label map (N, H, W)"
        )
    labels = answer.long()
    if answer.is_floating_point() and not torch.equal(labels.to(answer.dtype), answer):
        raise CellError(f"{name} is to give labels, but returns values that are no whole numbers")
    classes = num_classes or MOST_CLASSES
    labels = labels if groups is None else _grouped(labels, groups)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        odd = int(answer.long()[(labels < 0) | (labels >= classes)][0])
        hint = (
            f"labels are 0 to {classes - 1}, each pixel has one"
            if groups is None
            else "give it to a class of the dataset in 'classes'"
        )
        raise CellError(f"{name} predicts the label {odd}, which means no class of the dataset; {hint}")
    return torch.zeros(count, classes, *labels.shape[1:], device=labels.device).scatter_(1, labels[:, None], 1.0)


def _grouped(labels: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Return the dataset's class of each of the network's labels: the first that names it; -1 where none does."""
    size = 1 + max((label for group in groups for label in group), default=0)
    table = torch.full((size + 1,), -1, device=labels.device)
    for index in reversed(range(len(groups))):
        table[list(groups[index])] = index
    return table[labels.where((labels >= 0) & (labels < size), size)]
