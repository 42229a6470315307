"""What a sweep counts on each image, and in all: pixels per class, distances, passes, certificates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.attacks.tools.passes import Passes
from segbench.attacks.tools.targets import Target, goal
from segbench.defenses.base import ABSTAIN
from segbench.errors import CellError
from segbench.evaluation.counting import fetched, pixels
from segbench.evaluation.curve import Curve
from segbench.reports.statistics import Counts


@dataclass
class Outcome:
    """The findings of one evaluation on one image, on the device until they are fetched.

    Attributes:
        counts: (3, C) intersections, predicted and true pixels of every class; for each part of an ensemble by its
            name, for all other attacks under "".
        distance: how far the image was moved, in the norm of the attack; the largest of its crops and parts.
        on_target: (2,) pixels that a targeted attack has brought to its labels, and pixels that it was to.
        certified: like `counts`, of the target's certificates.
        outside: like `counts`, without the pixels of a patch or of the objects to hide; see `regions`.
        hidden: (4, 3) objects to hide, and those that are hidden, by size.
        tallies: what else was counted, family by family, of each part as in `counts`.
        shown: the attacked crops and the predicted labels, where the image is kept.
    """

    counts: dict[str, Any] = field(default_factory=dict)
    distance: Any = None
    on_target: Any = None
    certified: Any = None
    outside: Any = None
    hidden: Any = None
    tallies: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown: tuple[Tensor, Tensor] | None = None


def fetch(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return findings as arrays on the host; what is shown stays on the device."""
    found = [{**vars(outcome), "shown": None} for outcome in outcomes]
    tensors: list[Tensor] = []
    for own in found:
        _each(own, tensors.append)
    arrays = iter(fetched(tensors))
    landed = [_each(own, lambda _: next(arrays)) for own in found]
    return [Outcome(**{**own, "shown": outcome.shown}) for own, outcome in zip(landed, outcomes, strict=True)]


def _each(found: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return what was found with each tensor changed, in their order."""
    if isinstance(found, dict):
        return {name: _each(own, change) for name, own in found.items()}
    return change(found) if isinstance(found, Tensor) else found


@dataclass
class Tally:
    """The findings of one evaluation on all images so far.

    Attributes:
        counts: per image (3, C): intersections, predicted and true pixels of every class; for each part of an
            ensemble by its name, for all other attacks under "".
        distances: how far each image was moved, in the norm of the attack; the largest of its parts.
        passes: of the source network, in images.
        certified: like `counts`, of the target's certificates: a pixel without one is predicted nowhere.
        radius: of the certificates.
        on_target: per image (2,): pixels that a targeted attack has brought to its labels, and pixels that it was to.
        outside: per image (3, C) pixels of every class, without those of a patch or of the objects to hide.
        hidden: per image (4, 3) objects to hide, and those that are hidden, by size.
        families: what is counted on each image beside `counts`.
        tallies: per image and family, of each part as in `counts`.
        kept: hashes of the images that were kept, by their position in the split.
        curve: what the attack's best candidates so far left, by the number of passes.
    """

    counts: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)
    passes: Passes = field(default_factory=Passes)
    certified: list[NDArray[np.int64]] = field(default_factory=list)
    radius: float = 0.0
    on_target: list[NDArray[np.int64]] = field(default_factory=list)
    outside: list[NDArray[np.int64]] = field(default_factory=list)
    hidden: list[NDArray[np.int64]] = field(default_factory=list)
    families: tuple[str, ...] = ()
    tallies: dict[str, dict[str, list[NDArray[Any]]]] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)
    curve: Curve = field(default_factory=Curve)

    def add(self, outcome: Outcome) -> None:
        """Add the findings on one image."""
        self.distances.append(float(outcome.distance))
        for part, counts in outcome.counts.items():
            self.counts.setdefault(part, []).append(counts)
        for part, found in outcome.tallies.items():
            for family, counts in found.items():
                self.tallies.setdefault(part, {}).setdefault(family, []).append(counts)
        if outcome.on_target is not None:
            self.on_target.append(outcome.on_target)
        if outcome.outside is not None:
            self.outside.append(outcome.outside)
        if outcome.hidden is not None:
            self.hidden.append(outcome.hidden)
        if outcome.certified is not None:
            self.certified.append(outcome.certified)

    def extend(self, other: Tally) -> None:
        """Add the findings on the images that follow; `families` is the same in both."""
        self.distances += other.distances
        self.passes.forward += other.passes.forward
        self.passes.backward += other.passes.backward
        self.radius = max(self.radius, other.radius)
        for part, counts in other.counts.items():
            self.counts.setdefault(part, []).extend(counts)
        for part, families in other.tallies.items():
            for family, own in families.items():
                self.tallies.setdefault(part, {}).setdefault(family, []).extend(own)
        self.on_target += other.on_target
        self.outside += other.outside
        self.hidden += other.hidden
        self.certified += other.certified
        self.kept |= other.kept
        self.curve.extend(other.curve)


def confusion(preds: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> Counts:
    """Count the pixels of one image: (3, C) intersections, predicted and true pixels; void counts nowhere.

    Args:
        preds: predicted labels (H, W).
        truth: true labels (H, W).
        num_classes: number of classes C.
        ignore_index: label of void pixels.

    Raises:
        CellError: a label is neither a class nor void.
    """
    highest = int(truth.masked_fill(truth == ignore_index, 0).max()) if truth.numel() else 0
    if highest >= num_classes:
        raise CellError(f"a mask holds label {highest}, but there are {num_classes} classes")
    return pixels(preds[None], truth[None], num_classes, ignore_index)[0].cpu().numpy()


def certified_confusion(labels: Tensor, masks: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count certified pixels like `pixels`: one without a certificate is no prediction, but still true.

    Args:
        labels: certified labels, `ABSTAIN` where there is none, any shape.
        masks: true labels of the same shape.
        num_classes: number of classes C.
        ignore_index: label of void pixels.
    """
    known = torch.where(labels == ABSTAIN, num_classes, labels)
    return pixels(known.view(1, -1), masks.reshape(1, -1), num_classes, ignore_index)[0]


def on_target(preds: Tensor, truth: Tensor, target: Target, ignore_index: int) -> Tensor:
    """Count the pixels that have the label which a targeted attack asks for, and all pixels of which it asks one, (2,).

    Args:
        preds: predicted labels (H, W).
        truth: true labels (H, W).
        target: what the attack aims at.
        ignore_index: label of void pixels.
    """
    labels = goal(truth[None], target, ignore_index=ignore_index)[0]
    asked = labels != ignore_index
    return torch.stack([((preds == labels) & asked).sum(), asked.sum()])
