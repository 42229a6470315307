"""The contract of a network: a trunk, a classifier on its features, and optionally an auxiliary classifier.

A tagged factory (`@model`) returns a `Segmenter`. Defenses that need more branches add classifiers made by
`Segmenter.make_classifier` on the same trunk, for every architecture alike, and deploy the plain `Segmenter`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONTEXT = ("num_classes",)
"""Parameters that the harness fills in; all others are options."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ModelError(ValueError):
    """An option or a file of weights that a network cannot take: what, and what instead, in one sentence."""


class Features(NamedTuple):
    """What a trunk returns: the features that classifiers see, and an earlier map for the auxiliary one."""

    main: Tensor
    auxiliary: Tensor | None


class Segmenter(nn.Module):
    """A segmentation network: images (N, 3, H, W) in [0, 1] -> logits (N, num_classes, H, W).

    Args:
        trunk: normalised images -> `Features`.
        make_classifier: number of classes -> a fresh classifier of the trunk's main features.
        num_classes: classes of the main and the auxiliary classifier.
        auxiliary: classifier of the auxiliary features, or None.
        divisor: height and width are padded with the mean colour to a multiple of this plus `remainder`; logits are
            cut back.
        remainder: what padded sizes leave when divided by `divisor`.
        align_corners: how logits are resized to the input's size (bilinear).
        mean: subtracted from images, per channel.
        std: divides images, per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        make_classifier: Callable[[int], nn.Module],
        num_classes: int,
        *,
        auxiliary: nn.Module | None = None,
        divisor: int = 1,
        remainder: int = 0,
        align_corners: bool = False,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.make_classifier = make_classifier
        self.num_classes = num_classes
        self.classifier = make_classifier(num_classes)
        self.auxiliary = auxiliary
        self.divisor = divisor
        self.remainder = remainder
        self.align_corners = align_corners
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the main classifier's logits at the images' size."""
        return self.classify(self.classifier, self.features(images).main, images)

    def features(self, images: Tensor) -> Features:
        """Normalise, pad and run the trunk."""
        normalised = (images - self.mean) / self.std
        bottom, right = self._padding(images)
        if bottom or right:
            normalised = F.pad(normalised, (0, right, 0, bottom))
        features: Features = self.trunk(normalised)
        return features

    def classify(self, classifier: nn.Module, features: Tensor, images: Tensor) -> Tensor:
        """Run a classifier on trunk features and bring its logits to the size of the images.

        Args:
            classifier: one made by `make_classifier`, or the auxiliary classifier.
            features: main or auxiliary features of these images.
            images: the images that the features came from; only their size is used.
        """
        height, width = images.shape[-2:]
        bottom, right = self._padding(images)
        padded = (height + bottom, width + right)
        # Rows of pixels, not of classes: log-softmax over a channels_last map would copy it at full size.
        logits: Tensor = classifier(features).contiguous()
        if logits.shape[-2:] != padded:
            logits = F.interpolate(logits, padded, mode="bilinear", align_corners=self.align_corners)
        return logits[..., :height, :width]

    def _padding(self, images: Tensor) -> tuple[int, int]:
        """Rows added below and columns added at the right."""
        height, width = images.shape[-2:]
        return (self.remainder - height) % self.divisor, (self.remainder - width) % self.divisor


@dataclass(frozen=True)
class Tag:
    """What the catalog reads from a tagged component.

    Attributes:
        kind: "model", "defense", "dataset" or "protocol".
        name: what matrices and tables call it.
        version: raised when the same options give other numbers.
    """

    kind: str
    name: str
    version: int


C = TypeVar("C", bound=Callable[..., Any])


def tagger(kind: str, name: str, version: int) -> Callable[[C], C]:
    """Return a decorator that tags a function or class as a component."""

    def tag(component: C) -> C:
        component.tag = Tag(kind, name, version)  # type: ignore[attr-defined]
        return component

    return tag


def model(name: str, *, version: int = 1) -> Callable[[C], C]:
    """Tag a factory as an architecture; its first parameter is `num_classes`, the rest are options.

    Args:
        name: what matrices and tables call it.
        version: raise it when the same options and weights give other logits.
    """
    return tagger("model", name, version)
