"""What is counted on each image beside the pixels of each class, family by family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from segbench.attacks.tools.losses import predicted
from segbench.evaluation.bands import TrueBands, band_counts, true_bands
from segbench.evaluation.confidence import confidence_bins
from segbench.evaluation.objects import Objects, object_counts, objects_of
from segbench.protocols.base import Confident, Crops, EvaluationProtocol


@dataclass(frozen=True)
class Truth:
    """The truth of one image, with what families know of it before anything is predicted.

    Attributes:
        labels: true labels (H, W).
        ignore_index: label of void pixels.
        bands: its boundaries, if they are asked for.
        objects: its objects, if they are asked for.
    """

    labels: Tensor
    ignore_index: int
    bands: TrueBands | None
    objects: Objects | None


def seen(labels: Tensor, families: Sequence[str], num_classes: int, ignore_index: int) -> Truth:
    """Return the truth of one image for some families.

    Args:
        labels: true labels (H, W).
        families: what is to be counted.
        num_classes: number of classes C.
        ignore_index: label of void pixels.
    """
    bands = true_bands(labels, num_classes, ignore_index) if "boundary" in families else None
    return Truth(labels, ignore_index, bands, objects_of(labels, ignore_index) if "objects" in families else None)


def possible(families: Sequence[str], network: nn.Module, protocol: EvaluationProtocol) -> tuple[str, ...]:
    """Return the families that a network has under a protocol: some do not say how confident they are.

    Args:
        families: what is asked for.
        network: the network that is scored; one whose scores are votes or mere labels has `has_confidence` False.
        protocol: how it is scored.
    """
    confident = isinstance(protocol, Confident) and getattr(network, "has_confidence", True)
    return tuple(family for family in families if family != "confidence" or confident)


def labelled(protocol: EvaluationProtocol, scores: Tensor, crops: Crops) -> tuple[Tensor, Tensor | None]:
    """Return the label map of one image, (H, W), and the probabilities of all classes, (C, H, W), if there are any.

    Args:
        protocol: how images are scored.
        scores: of the image's pieces.
        crops: the pieces.
    """
    if not isinstance(protocol, Confident):
        return protocol.merge(scores, crops), None
    merged = protocol.merged(scores, crops)
    return predicted(merged, 0), merged.float() if protocol.answers == "probabilities" else merged.float().softmax(0)


def tallied(
    families: Sequence[str], preds: Tensor, probabilities: Tensor | None, truth: Truth
) -> dict[str, NDArray[Any]]:
    """Count one image, family by family.

    Args:
        families: what is to be counted.
        preds: predicted labels (H, W).
        probabilities: of every class, (C, H, W); needed for "confidence".
        truth: the truth.
    """
    found: dict[str, NDArray[Any]] = {}
    if "confidence" in families and probabilities is not None:
        found["confidence"] = confidence_bins(probabilities, preds, truth.labels, truth.ignore_index)
    if truth.bands is not None:
        found["boundary"] = band_counts(preds, truth.bands)
    if truth.objects is not None:
        found["objects"] = object_counts(preds, truth.labels, truth.objects)
    return found
