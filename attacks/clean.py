"""No attack: the clean images."""

from __future__ import annotations

from torch import Tensor, nn

from segbench.attacks.base import attack


@attack("clean", access="none")
def clean(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    """Return the images unchanged: the clean column of every table.

    Args:
        model: network, unused.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W), unused.
    """
    return images
