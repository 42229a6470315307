"""The contract of a defense: a module to train, the loss of one batch, and the network to deploy.

A class or function tagged with `@defense` builds an `nn.Module` around a `Segmenter`. The state dict of this module
holds everything that training needs to resume, including extra branches. `deploy()` returns the network to evaluate.

A deployed network whose scores say nothing of its confidence, such as votes or one-hot labels, has the attribute
`has_confidence` with the value False: no calibration is measured on it.

A defense that only changes training deploys the plain `Segmenter`. A defense that acts at inference deploys a module
that also implements `Wrapped`, `Certified` or `Dynamic`; the evaluation checks for these protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.model_zoo.base import Segmenter, tagger

CONTEXT = ("segmenter", "aux_weight", "ignore_index")
"""Parameters that the training loop provides; all others are options of the defense."""


class Losses(NamedTuple):
    """The loss of one batch, a scalar to minimise, and its terms by name for the history (detached scalars)."""

    total: Tensor
    terms: dict[str, Tensor]


class TrainingDefense(Protocol):
    """The methods of a defense, which is also an `nn.Module`."""

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of one batch in train mode.

        Args:
            images: (N, 3, H, W) in [0, 1].
            masks: (N, H, W).
            generator: random generator for everything except the network's own layers, such as dropout.
        """
        ...

    def deploy(self) -> nn.Module:
        """Return the network to evaluate: images (N, 3, H, W) -> logits (N, C, H, W)."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A defense with work to do once, before the first batch.

    `prepare` is not called when training resumes or when trained weights are loaded.
    """

    def prepare(self) -> None:
        """Prepare the networks for training, for example by loading a pretrained encoder."""
        ...


@runtime_checkable
class LearnsFromVideo(Protocol):
    """A defense that learns from unlabelled video in addition to labelled images."""

    def video_loss(self, frames: Tensor, intrinsics: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of one batch of short clips; training adds it to the loss of the labelled batch.

        Args:
            frames: (N, 3, 3, H, W) in [0, 1]: the previous, current and next frame of each clip.
            intrinsics: (N, 3, 3) camera matrices in pixels; (0, 0) is the centre of the top left pixel.
            generator: random generator for everything except the network's own layers, such as dropout.
        """
        ...


@runtime_checkable
class LearnsFromDepth(Protocol):
    """A defense that can learn from the depth of the labelled images.

    Attributes:
        uses_depth: whether this instance learns from depth; if not, `loss` is called without it.
    """

    uses_depth: bool

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator, depth: Tensor | None = None) -> Losses:
        """Return the loss of one batch in train mode; see `TrainingDefense`.

        Args:
            images: (N, 3, H, W) in [0, 1].
            masks: (N, H, W).
            generator: random generator for everything except the network's own layers, such as dropout.
            depth: (N, H, W) in metres, 0 where the depth is unknown.
        """
        ...


@runtime_checkable
class Wrapped(Protocol):
    """A deployed network that wraps another one.

    The *adaptive* attacker attacks the deployed network. The *oblivious* attacker attacks `plain`, and the resulting
    images are scored on the deployed network. Report both: the oblivious score alone says nothing about robustness.

    Attributes:
        plain: the network without the defense, images -> logits; it shares its weights with the deployed network.
    """

    plain: nn.Module


class Certificate(NamedTuple):
    """Labels that, with high probability, no perturbation within a radius can change.

    Attributes:
        labels: (N, H, W) int64, `ABSTAIN` at pixels without a guarantee.
        radius: L2 radius in [0, 1] units within which all labels of an image, or of a crop, hold at once.
    """

    labels: Tensor
    radius: float


ABSTAIN = -1
"""The label of pixels without a certificate."""


@runtime_checkable
class Certified(Protocol):
    """A deployed network that can certify its predictions."""

    def certify(self, images: Tensor, generators: Sequence[torch.Generator]) -> Certificate:
        """Return certified labels.

        Args:
            images: (N, 3, H, W) in [0, 1]: images, or crops of them; each is certified by itself.
            generators: random generators for the noise, one per image or crop.
        """
        ...


@runtime_checkable
class Dynamic(Protocol):
    """A deployed network that keeps learning from the images it receives, so that their order matters.

    Only `adapt` changes the network. A forward pass does not, so an attack can query the network without changing it.
    """

    def adapt(self, images: Tensor) -> None:
        """Learn from images that are about to be scored, (N, 3, H, W) in [0, 1]."""
        ...

    def reset(self) -> None:
        """Restore the state at deployment; every evaluation starts from it."""
        ...


def attacked(
    attack: BoundAttack,
    segmenter: Segmenter,
    images: Tensor,
    masks: Tensor,
    *,
    ignore_index: int,
    generator: torch.Generator,
) -> Tensor:
    """Return adversarial images for training, (N, 3, H, W); attacks that weigh classes count those in the batch.

    Args:
        attack: the attack used in training.
        segmenter: the network to attack.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        ignore_index: label of void pixels.
        generator: random generator of the attack.

    Raises:
        ValueError: the attack fits a perturbation first.
    """
    if attack.attack.fit is not None:
        raise ValueError(
            f"{attack.attack.name} fits a perturbation on the training data first, which an attack used in training "
            "does not get; choose another attack"
        )
    class_pixels = None
    if attack.needs_training_data:
        class_pixels = torch.bincount(masks[masks != ignore_index].flatten(), minlength=1)
    return attack(segmenter, images, masks, ignore_index=ignore_index, generator=generator, class_pixels=class_pixels)


D = TypeVar("D", bound=Callable[..., nn.Module])


def defense(name: str, *, version: int = 1) -> Callable[[D], D]:
    """Tag a class or factory as a defense, so that the catalog finds it.

    Args:
        name: name in matrices and tables.
        version: increase it whenever the same options train a different network.
    """
    return tagger("defense", name, version)


def segmentation_loss(
    segmenter: Segmenter, images: Tensor, masks: Tensor, *, aux_weight: float, ignore_index: int
) -> Losses:
    """Cross-entropy of the main classifier plus `aux_weight` times that of the auxiliary classifier.

    Args:
        segmenter: the network, in train mode.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        aux_weight: weight of the auxiliary classifier's loss; ignored if the network has no auxiliary classifier.
        ignore_index: label of void pixels.
    """
    features = segmenter.features(images)
    main = cross_entropy(segmenter.classify(segmenter.classifier, features.main, images), masks, ignore_index)
    auxiliary = auxiliary_loss(segmenter, features.auxiliary, images, masks, ignore_index)
    return Losses(main + aux_weight * auxiliary, {"main": main.detach(), "auxiliary": auxiliary.detach()})


def auxiliary_loss(
    segmenter: Segmenter, features: Tensor | None, images: Tensor, masks: Tensor, ignore_index: int
) -> Tensor:
    """Cross-entropy of the auxiliary classifier; 0 if the network has none."""
    if segmenter.auxiliary is None or features is None:
        return images.new_zeros(())
    return cross_entropy(segmenter.classify(segmenter.auxiliary, features, images), masks, ignore_index)


def cross_entropy(logits: Tensor, masks: Tensor, ignore_index: int) -> Tensor:
    """Mean cross-entropy over the valid pixels of a batch; 0 if there are none."""
    valid = (masks != ignore_index).sum().clamp_min(1)
    return F.cross_entropy(logits.float(), masks, ignore_index=ignore_index, reduction="sum") / valid
