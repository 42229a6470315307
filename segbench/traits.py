"""What a defense needs in training and offers at inference, so that a plan knows it before anything is trained."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from defenses.base import Certified, Dynamic, LearnsFromDepth, LearnsFromVideo
from reports.records import Component
from segbench import specs
from segbench.errors import SegbenchError
from segbench.toy import toy_segmenter

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


def defense_traits(defense: Component) -> tuple[Trait, ...]:
    """Return the traits of what a defense deploys; they do not depend on the architecture.

    Args:
        defense: the defense with all its options.

    Raises:
        SegbenchError: an option is out of range.
    """
    return traits(_on_toy(_written(defense)).deploy())


def defense_needs(defense: Component) -> tuple[Need, ...]:
    """Return what a defense learns from beside labelled images; see `defense_traits`."""
    return needs(_on_toy(_written(defense)))


def _written(defense: Component) -> str:
    return json.dumps(
        {"name": defense.name, "version": defense.version, "options": dict(defense.options)}, sort_keys=True
    )


@cache
def _on_toy(written: str) -> Any:
    bound = specs.bound("defense", json.loads(written))
    with torch.random.fork_rng(devices=[]):
        try:
            return bound.make(segmenter=toy_segmenter(), aux_weight=0.4, ignore_index=255)
        except (ValueError, TypeError) as error:
            raise SegbenchError(str(error)) from error
