"""Is a network fed what it expects? Its score on clean images tells, beside its score under other conventions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.config.network import Channels, Convention
from segbench.datasets.base import Dataset
from segbench.errors import SegbenchError
from segbench.memory import in_parts
from segbench.model_zoo.base import IMAGENET_MEAN, IMAGENET_STD
from segbench.networks.adapter import Adapter
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.protocols.void import scored_split
from segbench.reports.statistics import class_iou

IMAGES = 16
"""Images that conventions are compared on."""
CONVENTIONS = 12
"""Conventions in use, the stated one among them."""
STAGES = (1, 4)
"""Numbers of images after which a convention is given up that has not scored better so far."""
MARGIN = 3.0
"""Points of score by which another convention must be better."""
SIGMAS = 3.0
"""Standard errors of the difference, image by image, that it must be better by."""
HALF: Channels = (0.5, 0.5, 0.5)


class Doubt(NamedTuple):
    """Another convention under which a network scores much better.

    Attributes:
        convention: that convention.
        score: its score, in per cent.
        stated: the score under the stated one.
    """

    convention: Convention
    score: float
    stated: float


def check(
    adapter: Adapter, dataset: Dataset, split: str, protocol: EvaluationProtocol, *, device: torch.device
) -> Doubt | None:
    """Compare a network's score under its convention with that under every other one that is in use.

    The score is the mean over images of the mean IoU of the classes in each image's mask. Another convention is
    doubted for only where it is better by `MARGIN` and by `SIGMAS` standard errors, and better by as much than the best
    label map of one class: noise of an untrained network is no reason. The images that one class tells least about come
    first, and a convention that is not better on them is given up: a network that is fed well costs one image for each.

    Args:
        adapter: the network, in eval mode.
        dataset: what it is to be evaluated on.
        split: the split whose first images are looked at.
        protocol: how they are predicted.
        device: where this runs.
    """
    samples = scored_split(dataset, split, protocol)
    pieces = [protocol.crops(*samples[index][1:]) for index in range(min(IMAGES, len(samples)))]
    constant = np.array([_best_constant(crops.truth, dataset.ignore_index) for crops in pieces])
    order = np.argsort(np.where(constant > 0, constant, np.inf), kind="stable")
    pieces, constant = [pieces[index] for index in order], constant[order]
    stated = _Scorer(adapter.to(device), pieces, protocol, dataset.ignore_index)
    best = None
    for convention in alternatives(adapter.convention):
        other = _Scorer(adapter.under(convention), pieces, protocol, dataset.ignore_index)
        if _hopeless(other, stated, constant):
            continue
        found = other.scores(len(pieces))
        if (
            _much_better(found, stated.scores(len(pieces)))
            and _much_better(found, constant)
            and (best is None or found.mean() > best.score)
        ):
            best = Doubt(convention, float(found.mean()), float(stated.scores(len(pieces)).mean()))
    return best


def _hopeless(other: _Scorer, stated: _Scorer, constant: NDArray[np.float64]) -> bool:
    """Whether a convention is no better on the first images: it can then not be much better on all of them."""
    for count in STAGES:
        if count < len(constant):
            found = other.scores(count)
            if found.mean() <= max(stated.scores(count).mean(), constant[:count].mean()):
                return True
    return False


def refuse(name: str, stated: Convention, doubt: Doubt) -> SegbenchError:
    """Return the error that says what was found."""
    keys = doubt.convention.model_dump(exclude_defaults=True)
    written = ", ".join(f"{key}: {list(value) if isinstance(value, tuple) else value}" for key, value in keys.items())
    return SegbenchError(
        f"{name} scores {doubt.stated:.1f} on clean images fed as stated ({stated.text}), but {doubt.score:.1f} fed as "
        f"{doubt.convention.text}; state the convention {{{written}}}, or pass --force (in a matrix: check: false)"
    )


def alternatives(stated: Convention) -> Iterator[Convention]:
    """Yield the conventions in use that give a network other input than the stated one."""
    plain = {"multiple": stated.multiple, "remainder": stated.remainder, "size": stated.size}
    known = {_effect(stated)}
    means: list[tuple[Channels | None, Channels | None]] = [
        (None, None),
        (IMAGENET_MEAN, IMAGENET_STD),
        (IMAGENET_MEAN, None),
        (HALF, HALF),
    ]
    for channels, values, (mean, std) in itertools.product(("rgb", "bgr"), (1, 255), means):
        ordered = [None if one is None else one if channels == "rgb" else one[::-1] for one in (mean, std)]
        scaled = [None if one is None else tuple(round(values * part, 6) for part in one) for one in ordered]
        convention = Convention.model_validate(
            {**plain, "range": f"0-{values}", "channels": channels, "mean": scaled[0], "std": scaled[1]}
        )
        if _effect(convention) not in known:
            known.add(_effect(convention))
            yield convention


def _effect(convention: Convention) -> tuple[object, ...]:
    """Return what a convention makes of black and white: equal for conventions that do the same."""
    top = 255.0 if convention.range == "0-255" else 1.0
    mean, std = convention.mean or (0.0,) * 3, convention.std or (1.0,) * 3
    ends = [(value - m) / s for m, s in zip(mean, std, strict=True) for value in (0.0, top)]
    return convention.channels, *(round(end, 3) for end in ends)


def _much_better(found: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    difference = found - other
    error = difference.std(ddof=1) / math.sqrt(len(difference)) if len(difference) > 1 else math.inf
    return bool(difference.mean() >= MARGIN and difference.mean() > SIGMAS * error)


class _Scorer:
    """A network under a convention, which scores each image when it is first asked for."""

    def __init__(
        self, adapter: Adapter, pieces: Sequence[Crops], protocol: EvaluationProtocol, ignore_index: int
    ) -> None:
        self.adapter, self.pieces, self.protocol, self.ignore_index = adapter, pieces, protocol, ignore_index
        self.found: list[float] = []
        self.most = max(len(crops.images) for crops in pieces)

    def scores(self, count: int) -> NDArray[np.float64]:
        """Return the scores of the first images, in per cent."""
        device = self.adapter.scale.device
        for crops in self.pieces[len(self.found) : count]:
            parts = in_parts(len(crops.images), self.most, partial(self._part, crops), device, self._fewer)
            preds = self.protocol.merge(torch.cat(parts), crops).to(crops.truth.device)
            self.found.append(_score(preds, crops.truth, self.ignore_index))
        return np.array(self.found[:count])

    def _part(self, crops: Crops, part: slice) -> Tensor:
        return self.protocol.scores(self.adapter, crops.images[part].to(self.adapter.scale.device), attacked=True)

    def _fewer(self, most: int) -> None:
        self.most = most


def _score(preds: Tensor, truth: Tensor, ignore_index: int) -> float:
    """Return the mean IoU of the classes in a mask, in per cent; 0 where all its pixels are void."""
    valid = truth != ignore_index
    if not valid.any():
        return 0.0
    preds, truth = preds[valid], truth[valid]
    number = 1 + max(int(preds.max()), int(truth.max()))
    counts = torch.stack([torch.bincount(labels, minlength=number) for labels in (truth[preds == truth], preds, truth)])
    return 100 * float(class_iou(counts.numpy(), "skip")[counts[2].numpy() > 0].mean())


def _best_constant(truth: Tensor, ignore_index: int) -> float:
    """Return the score of the best label map of one class; 0 where no pixel counts."""
    counts = torch.bincount(truth[truth != ignore_index])
    # Of a map of one class, that class has the IoU of its share of the pixels, and all others have 0.
    return 100 * float(counts.max() / counts.sum() / (counts > 0).sum()) if counts.any() else 0.0
