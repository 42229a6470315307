"""The contract of a defense: what is trained, the loss of one batch, and what is deployed.

What `@defense` tags makes an `nn.Module` built around a `Segmenter`. Its state holds every branch that training
needs, so a checkpoint of it resumes training; `deploy()` gives back what is evaluated.

What is deployed is a plain `Segmenter`, unless the defense acts at inference. Then it is a module that also offers what
one of `Wrapped`, `Certified` and `Dynamic` says, and the evaluation takes it up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import Segmenter, tagger

CONTEXT = ("segmenter", "aux_weight", "ignore_index")
"""Parameters that training fills in; all others are options of the defense."""


class Losses(NamedTuple):
    """The loss of one batch, a scalar to go down, and named parts of it to record (detached scalars)."""

    total: Tensor
    terms: dict[str, Tensor]


class TrainingDefense(Protocol):
    """What a class tagged with `@defense` offers beside being an `nn.Module`."""

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of one batch in train mode.

        Args:
            images: (N, 3, H, W) in [0, 1].
            masks: (N, H, W).
            generator: source of all randomness that is not the network's own.
        """
        ...

    def deploy(self) -> nn.Module:
        """Return the network to evaluate: images (N, 3, H, W) -> logits (N, C, H, W)."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A defense with work to do once, before the first batch; not when training resumes or weights are loaded."""

    def prepare(self) -> None:
        """Make the networks ready for training."""
        ...


@runtime_checkable
class LearnsFromVideo(Protocol):
    """A defense that learns from unlabelled video beside the labelled images."""

    def video_loss(self, frames: Tensor, intrinsics: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of one batch of short clips, to be added to that of the labelled batch.

        Args:
            frames: (N, 3, 3, H, W) in [0, 1]: of each clip the frame before, the frame itself and the one after.
            intrinsics: (N, 3, 3) camera matrices in pixels of these frames, (0, 0) the centre of the first pixel.
            generator: source of all randomness that is not the network's own.
        """
        ...


@runtime_checkable
class LearnsFromDepth(Protocol):
    """A defense that can learn from the depth of the labelled images.

    Attributes:
        uses_depth: whether it does, as it was built; else its loss is that of `TrainingDefense`.
    """

    uses_depth: bool

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator, depth: Tensor | None = None) -> Losses:
        """Return the loss of one batch in train mode; see `TrainingDefense`.

        Args:
            images: (N, 3, H, W) in [0, 1].
            masks: (N, H, W).
            generator: source of all randomness that is not the network's own.
            depth: (N, H, W) in metres, 0 where it is not known.
        """
        ...


@runtime_checkable
class Wrapped(Protocol):
    """A deployed network around another one.

    The *adaptive* attacker attacks the deployed network, the *oblivious* one attacks `plain` and is scored on the
    deployed network. Both numbers belong in a table: the second alone says nothing about robustness.

    Attributes:
        plain: the network without the defense, images -> logits; part of the deployed network, with its weights.
    """

    plain: nn.Module


class Certificate(NamedTuple):
    """Labels that no perturbation within a radius changes, with high probability.

    Attributes:
        labels: (N, H, W) int64, `ABSTAIN` where nothing is guaranteed.
        radius: L2 radius in [0, 1] units for which the labels of an image hold, all at once.
    """

    labels: Tensor
    radius: float


ABSTAIN = -1
"""The label of pixels without a certificate."""


@runtime_checkable
class Certified(Protocol):
    """A deployed network that can certify its labels."""

    def certify(self, images: Tensor, generators: Sequence[torch.Generator]) -> Certificate:
        """Return certified labels.

        Args:
            images: (N, 3, H, W) in [0, 1].
            generators: source of the noise, one per image.
        """
        ...


@runtime_checkable
class Dynamic(Protocol):
    """A deployed network with a state that incoming images change: order counts, and so does what came before.

    Calling the network changes nothing, so that attacks see it as it stands.
    """

    def adapt(self, images: Tensor) -> None:
        """Take in images that are about to be scored, (N, 3, H, W) in [0, 1]."""
        ...

    def reset(self) -> None:
        """Return to the state of deployment; an evaluation starts from it."""
        ...


D = TypeVar("D", bound=Callable[..., nn.Module])


def defense(name: str, *, version: int = 1) -> Callable[[D], D]:
    """Tag a class or factory as a defense; the catalog finds it by this.

    Args:
        name: what matrices and tables call it.
        version: raise it when the same options train another network.
    """
    return tagger("defense", name, version)


def segmentation_loss(
    segmenter: Segmenter, images: Tensor, masks: Tensor, *, aux_weight: float, ignore_index: int
) -> Losses:
    """Cross-entropy of the main classifier plus `aux_weight` times that of the auxiliary one.

    Args:
        segmenter: the network, in train mode.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        aux_weight: weight of the auxiliary classifier; without one it has no effect.
        ignore_index: label of void pixels.
    """
    features = segmenter.features(images)
    main = cross_entropy(segmenter.classify(segmenter.classifier, features.main, images), masks, ignore_index)
    auxiliary = auxiliary_loss(segmenter, features.auxiliary, images, masks, ignore_index)
    return Losses(main + aux_weight * auxiliary, {"main": main.detach(), "auxiliary": auxiliary.detach()})


def auxiliary_loss(
    segmenter: Segmenter, features: Tensor | None, images: Tensor, masks: Tensor, ignore_index: int
) -> Tensor:
    """Cross-entropy of the auxiliary classifier, 0 where the network has none."""
    if segmenter.auxiliary is None or features is None:
        return images.new_zeros(())
    return cross_entropy(segmenter.classify(segmenter.auxiliary, features, images), masks, ignore_index)


def cross_entropy(logits: Tensor, masks: Tensor, ignore_index: int) -> Tensor:
    """Mean cross-entropy over valid pixels, 0 where a batch has none."""
    valid = (masks != ignore_index).sum().clamp_min(1)
    return F.cross_entropy(logits.float(), masks, ignore_index=ignore_index, reduction="sum") / valid
