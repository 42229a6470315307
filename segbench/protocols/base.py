"""The contract of a protocol: from an image to the crops that are attacked, and from their scores to a label map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from segbench.model_zoo.base import tagger
from segbench.reports.statistics import Absent

Void = Literal["skip", "background"]
Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Crops:
    """The pieces of one image that are attacked and predicted.

    Attributes:
        images: (K, 3, h, w) float32 in [0, 1], all of one size.
        masks: (K, h, w) int64 labels that the attack sees.
        truth: (H, W) int64 labels that the prediction is scored against.
        layout: whatever `merge` needs to put the pieces together.
    """

    images: Tensor
    masks: Tensor
    truth: Tensor
    layout: Any = None


class EvaluationProtocol(Protocol):
    """What a class tagged with `@protocol` offers; options are its arguments, its name fixes all the rest.

    Attributes:
        absent: what a class that is neither in truth nor prediction counts in mIoU: left out, or 0.
        void: what void pixels are: left out of losses and scores, or counted as the class "background" on
            datasets that have one (see `protocols.void`); `crops` leaves them as they are.
        scope: in words, what one adversarial image covers ("image" or "crop"); goes into every record.
    """

    absent: Absent
    void: Void
    scope: str

    def crops(self, image: Tensor, mask: Tensor) -> Crops:
        """Cut a sample into the pieces that are attacked and predicted.

        Args:
            image: (3, H, W), uint8 or float in [0, 1].
            mask: (H, W) labels, 255 where void.
        """
        ...

    def network(self, model: nn.Module) -> nn.Module:
        """Return what is attacked: the model, or the model inside its inference procedure."""
        ...

    def scores(self, model: nn.Module, images: Tensor, *, attacked: bool) -> Tensor:
        """Predict pieces: (K, 3, h, w) -> scores (K, C, h, w) that `merge` takes, without gradients."""
        ...

    def merge(self, scores: Tensor, crops: Crops) -> Tensor:
        """Put the scores of one image's pieces together to a label map (H, W) of the truth's size."""
        ...


@runtime_checkable
class Confident(Protocol):
    """A protocol that says how confident a network is in its labels; under another one, no confidence is counted.

    Attributes:
        answers: what `merged` returns: logits, whose softmax are the probabilities, or probabilities.
    """

    answers: Literal["logits", "probabilities"]

    def merged(self, scores: Tensor, crops: Crops) -> Tensor:
        """Put the scores of one image's pieces together, (C, H, W) of the truth's size; `merge` takes the largest."""
        ...


T = TypeVar("T", bound=Callable[..., Any])


def protocol(name: str, *, version: int = 1) -> Callable[[T], T]:
    """Tag a class as a protocol; the catalog finds it by this.

    Args:
        name: what matrices and tables call it, with its own version at the end ("whole-v1").
        version: of the implementation; a change of definition takes a new name instead.
    """
    return tagger("protocol", name, version)
