"""The loss along an attack's own iterates, read while the attack runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from segbench.attacks.tools.losses import cross_entropy, image_mean

LONGEST = 64
"""Passes that are looked at."""


@contextlib.contextmanager
def recorded(network: nn.Module, masks: Tensor, place: int, *, ignore_index: int = 255) -> Iterator[list[Tensor]]:
    """Collect the mean cross-entropy of one image at each pass of its whole batch that takes an input gradient.

    Args:
        network: the attacked network, images -> logits.
        masks: (N, H, W) of the batch.
        place: of the image in the batch.
        ignore_index: label of void pixels.
    """
    found: list[Tensor] = []
    own = masks[[place]]

    def note(module: nn.Module, inputs: Any, logits: Tensor) -> None:
        if len(found) < LONGEST and inputs[0].requires_grad and len(logits) == len(masks):
            with torch.no_grad():
                losses = cross_entropy(logits[[place]], own, ignore_index=ignore_index)
                found.append(image_mean(losses, own, ignore_index=ignore_index).squeeze())

    handle = network.register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()
