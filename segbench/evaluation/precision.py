"""The precision of a network's passes under attack and evaluation. What attacks do with logits stays float32."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from segbench.config.matrix import Precision
from segbench.torch_settings import rounded


class Halved(nn.Module):
    """A network whose passes run under autocast to bf16; its logits are float32.

    Args:
        model: images -> logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, H, W)."""
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.model(images)
        return logits.float()


def in_precision(network: nn.Module, precision: Precision) -> nn.Module:
    """Return a network as it is run in a precision; see `products` for the difference of fp32 and tf32."""
    return Halved(network) if precision == "bf16" else network


def products(precision: Precision) -> AbstractContextManager[None]:
    """Let a GPU round the factors of float32 products to TF32 inside, for "tf32", or keep all their bits."""
    return rounded(matrices=precision == "tf32", convolutions=precision == "tf32")
