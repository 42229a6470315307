"""What a defense needs in training and offers at inference, so that a plan knows it before anything is trained."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segbench.components.specs import Bound
from segbench.defenses.base import Certified, Dynamic, LearnsFromDepth, LearnsFromVideo
from segbench.errors import SegbenchError
from segbench.model_zoo.base import Features, Segmenter, rebuildable

Trait = Literal["wrapped", "certified", "dynamic"]
Need = Literal["depth", "clips"]


def traits(network: object) -> tuple[Trait, ...]:
    """Return which of `defenses.base.Wrapped`, `Certified` and `Dynamic` a deployed network is."""
    found: dict[Trait, bool] = {
        # A submodule is no attribute of its own that isinstance would find in every version of Python.
        "wrapped": isinstance(getattr(network, "plain", None), nn.Module),
        "certified": isinstance(network, Certified),
        "dynamic": isinstance(network, Dynamic),
    }
    return tuple(name for name, has in found.items() if has)


def needs(defense: object) -> tuple[Need, ...]:
    """Return what a defense learns from beside labelled images."""
    found: dict[Need, bool] = {
        "depth": isinstance(defense, LearnsFromDepth) and defense.uses_depth,
        "clips": isinstance(defense, LearnsFromVideo),
    }
    return tuple(name for name, has in found.items() if has)


@cache
def defense_traits(defense: Bound) -> tuple[Trait, ...]:
    """Return the traits of what a defense deploys; they do not depend on the architecture.

    Args:
        defense: the defense with all its options.

    Raises:
        SegbenchError: an option is out of range.
    """
    return traits(on_toy(defense).deploy())


def defense_needs(defense: Bound) -> tuple[Need, ...]:
    """Return what a defense learns from beside labelled images; see `defense_traits`."""
    return needs(on_toy(defense))


@cache
def on_toy(defense: Bound) -> Any:
    """Build a defense around the smallest network that it can train."""
    with torch.random.fork_rng(devices=[]):
        try:
            return defense.make(segmenter=toy_segmenter(), aux_weight=0.4, ignore_index=255)
        except (ValueError, TypeError) as error:
            raise SegbenchError(str(error)) from error


class ToyTrunk(nn.Module):
    """The smallest trunk that every defense can train."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Features:
        """Return the same features twice."""
        features: Tensor = self.encoder(images)
        return Features(features, features)


@rebuildable
def toy_segmenter(num_classes: int = 3) -> Segmenter:
    """Build a network whose passes cost nothing."""
    return Segmenter(
        ToyTrunk(), lambda classes: nn.Conv2d(4, classes, 1), num_classes, auxiliary=nn.Conv2d(4, num_classes, 1)
    )
