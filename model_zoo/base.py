"""The contract of a network: a trunk, a classifier on its features, and optionally an auxiliary classifier.

A factory tagged with `@model` returns a `Segmenter`. Defenses that need more branches create further classifiers on
the same trunk with `Segmenter.make_classifier`, which works for every architecture, and deploy the plain `Segmenter`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONTEXT = ("num_classes",)
"""Parameters that the harness provides; all others are options."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ModelError(ValueError):
    """An option or a weights file does not fit the network; the message says what to use instead."""


class Features(NamedTuple):
    """The output of a trunk: features for the main classifier, and earlier features for the auxiliary classifier."""

    main: Tensor
    auxiliary: Tensor | None


class Segmenter(nn.Module):
    """A segmentation network: images (N, 3, H, W) in [0, 1] -> logits (N, num_classes, H, W).

    Args:
        trunk: maps normalised images to `Features`.
        make_classifier: creates a new classifier for the trunk's main features, given the number of classes.
        num_classes: number of classes of the main and the auxiliary classifier.
        auxiliary: classifier for the auxiliary features, or None.
        divisor: height and width are padded with the mean colour to a multiple of `divisor` plus `remainder`, and the
            logits are cropped back. Example: 90x120 becomes 96x128 with divisor 32 and remainder 0.
        remainder: see `divisor`.
        align_corners: option of the bilinear resize of the logits to the size of the images.
        mean: mean of each channel, subtracted from the images.
        std: standard deviation of each channel, divides the images.

    Attributes:
        factory: builds this architecture with the same options, or None if the network was not built by a function
            tagged with `@model` or `@rebuildable`; see `rebuild`.
    """

    mean: Tensor
    std: Tensor
    factory: Callable[[], Segmenter] | None = None

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
        """Return the main classifier's logits at the size of the images."""
        return self.classify(self.classifier, self.features(images).main, images)

    def features(self, images: Tensor) -> Features:
        """Normalise and pad the images, and run the trunk."""
        normalised = (images - self.mean) / self.std
        bottom, right = self._padding(images)
        if bottom or right:
            normalised = F.pad(normalised, (0, right, 0, bottom))
        features: Features = self.trunk(normalised)
        return features

    def classify(self, classifier: nn.Module, features: Tensor, images: Tensor) -> Tensor:
        """Run a classifier on trunk features, and resize its logits to the size of the images.

        Args:
            classifier: a classifier created by `make_classifier`, or the auxiliary classifier.
            features: main or auxiliary features of these images.
            images: the images of these features; only their size is used.
        """
        height, width = images.shape[-2:]
        bottom, right = self._padding(images)
        padded = (height + bottom, width + right)
        # Contiguous logits: log-softmax over a channels_last tensor would copy it at full size.
        logits: Tensor = classifier(features).contiguous()
        if logits.shape[-2:] != padded:
            logits = F.interpolate(logits, padded, mode="bilinear", align_corners=self.align_corners)
        return logits[..., :height, :width]

    def rebuild(self) -> Segmenter:
        """Return a second network from the same factory with the same options.

        Pretrained weights of the encoder are loaded again. All other weights are new random numbers, taken from
        PyTorch's global random state as in any call of the factory.

        Raises:
            ModelError: the network does not know its factory.
        """
        if self.factory is None:
            raise ModelError(
                "this network does not know how it was built, so it cannot be built a second time; build it with a "
                "function tagged with @model or @rebuildable"
            )
        return self.factory()

    def _padding(self, images: Tensor) -> tuple[int, int]:
        """Return the number of rows padded at the bottom and of columns padded at the right."""
        height, width = images.shape[-2:]
        return (self.remainder - height) % self.divisor, (self.remainder - width) % self.divisor


@dataclass(frozen=True)
class Tag:
    """The catalog's description of a tagged component.

    Attributes:
        kind: "model", "defense", "dataset" or "protocol".
        name: name in matrices and tables.
        version: increases whenever the same options give different numbers.
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


P = ParamSpec("P")


def rebuildable(factory: Callable[P, Segmenter]) -> Callable[P, Segmenter]:
    """Make the networks of a factory remember the call that built them, for `Segmenter.rebuild`."""

    @wraps(factory)
    def build(*args: P.args, **kwargs: P.kwargs) -> Segmenter:
        segmenter = factory(*args, **kwargs)
        segmenter.factory = partial(build, *args, **kwargs)
        return segmenter

    return build


def model(name: str, *, version: int = 1) -> Callable[[Callable[P, Segmenter]], Callable[P, Segmenter]]:
    """Tag a factory as an architecture; its first parameter is `num_classes`, all others are options.

    Args:
        name: name in matrices and tables.
        version: increase it whenever the same options and weights give different logits.
    """

    def tag(factory: Callable[P, Segmenter]) -> Callable[P, Segmenter]:
        return tagger("model", name, version)(rebuildable(factory))

    return tag
