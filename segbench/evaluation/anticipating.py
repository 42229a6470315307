"""The attacker who anticipates: a dynamic network as it will stand when it answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Anticipating(nn.Module):
    """Answers for images as a dynamic network will once it has learned from them; the network itself stays as it is.

    Every forward pass lets a copy of the network learn from the images, and asks the copy. Gradients go through the
    copy's answers alone, and take what it learned as given: how the learning depends on the images has no part in them.

    Args:
        network: a network that implements `defenses.base.Dynamic`.
        view: what an attack sees of it, such as a protocol's `network`.
    """

    def __init__(self, network: Any, view: Callable[[Any], nn.Module]) -> None:
        super().__init__()
        self.network, self.view = network, view

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, C, H, W) that images (N, 3, H, W) will get."""
        adapted = copy.deepcopy(self.network)
        adapted.adapt(images.detach())
        logits: Tensor = self.view(adapted)(images)
        return logits
