"""The first pass of a network during an attack, kept because attacks often start at the clean images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from segbench.model_zoo.base import Features, Segmenter


class FirstPass(NamedTuple):
    """What a pass took, (N, 3, H, W), and made: the main features and the logits, (N, ...) each, detached."""

    images: Tensor
    features: Tensor
    logits: Tensor


@contextlib.contextmanager
def first_pass(segmenter: Segmenter) -> Iterator[list[FirstPass]]:
    """Collect the first pass of a network inside; the list stays empty where there is none."""
    features: list[Tensor] = []
    passes: list[FirstPass] = []

    def trunk_ran(module: nn.Module, inputs: object, made: Features) -> None:
        if not features:
            features.append(made.main.detach())

    def network_ran(module: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> None:
        if not passes:
            passes.append(FirstPass(inputs[0].detach(), features[0], logits.detach()))

    handles = [segmenter.trunk.register_forward_hook(trunk_ran), segmenter.register_forward_hook(network_ran)]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()
