"""What is counted on each image beside the pixels of each class, family by family."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segbench.attacks.tools.losses import predicted
from segbench.evaluation.bands import TrueBands, band_counts, true_bands
from segbench.evaluation.confidence import confidence_bins
from segbench.evaluation.objects import Objects, object_counts, objects_of
from segbench.protocols.base import Confident, Crops, EvaluationProtocol

TOGETHER = 1 << 22
"""Values of scores that are counted at once."""


@dataclass(frozen=True)
class Truth:
    """The truth of some images of one size, with what families know of it before anything is predicted.

    Attributes:
        labels: true labels (N, H, W).
        ignore_index: label of void pixels.
        bands: its boundaries, if they are asked for.
        objects: its objects, if they are asked for.
    """

    labels: Tensor
    ignore_index: int
    bands: TrueBands | None
    objects: Objects | None


def seen(
    truths: Iterable[Tensor],
    families: Sequence[str],
    num_classes: int,
    ignore_index: int,
    device: torch.device | None = None,
) -> Truth:
    """Return the truth of some images for some families.

    Args:
        truths: true labels of each image, (H, W), all of one size.
        families: what is to be counted.
        num_classes: number of classes C.
        ignore_index: label of void pixels.
        device: where it will be counted; None for where the labels are.
    """
    own = list(truths)
    objects = objects_of(torch.stack(own), ignore_index) if "objects" in families else None
    labels = torch.stack([one.to(device, non_blocking=True) for one in own])
    if objects is not None:
        objects = replace(objects, numbers=objects.numbers.to(device))
    bands = true_bands(labels, num_classes, ignore_index) if "boundary" in families else None
    return Truth(labels, ignore_index, bands, objects)


def possible(families: Sequence[str], network: nn.Module, protocol: EvaluationProtocol) -> tuple[str, ...]:
    """Return the families that a network has under a protocol: some do not say how confident they are.

    Args:
        families: what is asked for.
        network: the network that is scored; one whose scores are votes or mere labels has `has_confidence` False.
        protocol: how it is scored.
    """
    confident = isinstance(protocol, Confident) and getattr(network, "has_confidence", True)
    return tuple(family for family in families if family != "confidence" or confident)


class Answers(NamedTuple):
    """What a network answers for some images.

    Attributes:
        scores: of every class, (N, C, H, W).
        are_logits: whether their softmax are the probabilities, or they are probabilities.
    """

    scores: Tensor
    are_logits: bool

    def strips(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows with their probabilities, (N, C, rows, W), which take little memory beside all scores."""
        images, classes, height, width = self.scores.shape
        rows = max(1, TOGETHER // (images * classes * width))
        for first in range(0, height, rows):
            own = self.scores[:, :, first : first + rows].float().contiguous()  # as images that are stacked
            yield slice(first, first + rows), own.softmax(1) if self.are_logits else own


def together(sizes: Sequence[tuple[int, ...]], num_classes: int) -> Iterator[slice]:
    """Yield which images are counted together: those of one size that follow each other, and not too many of them.

    Args:
        sizes: of each image.
        num_classes: number of classes C.
    """
    first = 0
    while first < len(sizes):
        most = max(1, TOGETHER // (num_classes * math.prod(sizes[first])))
        last = first + 1
        while last < min(len(sizes), first + most) and sizes[last] == sizes[first]:
            last += 1
        yield slice(first, last)
        first = last


def labelled(
    protocol: EvaluationProtocol, scores: Sequence[Tensor], crops: Sequence[Crops]
) -> tuple[Tensor, Answers | None]:
    """Return the label maps of images of one size, (N, H, W), and the answers behind them, if they say how sure it is.

    Args:
        protocol: how images are scored.
        scores: of the pieces of each image.
        crops: the pieces of each image.
    """
    pairs = zip(scores, crops, strict=True)
    if not isinstance(protocol, Confident):
        return torch.stack([protocol.merge(own, pieces) for own, pieces in pairs]), None
    merged = [protocol.merged(own, pieces) for own, pieces in pairs]
    answers = merged[0][None] if len(merged) == 1 else torch.stack(merged)
    return predicted(answers), Answers(answers, protocol.answers == "logits")


def tallied(families: Sequence[str], preds: Tensor, answers: Answers | None, truth: Truth) -> dict[str, Tensor]:
    """Count images, family by family, on their device.

    Args:
        families: what is to be counted.
        preds: predicted labels (N, H, W).
        answers: what the network answered; needed for "confidence".
        truth: the truth.
    """
    found: dict[str, Tensor] = {}
    if "confidence" in families and answers is not None:
        bins = [
            confidence_bins(probabilities, preds[:, rows], truth.labels[:, rows], truth.ignore_index)
            for rows, probabilities in answers.strips()
        ]
        found["confidence"] = torch.stack(bins).sum(0)
    if truth.bands is not None:
        found["boundary"] = band_counts(preds, truth.bands)
    if truth.objects is not None:
        found["objects"] = object_counts(preds, truth.labels, truth.objects)
    return found
