"""The precision of a network's passes under attack and evaluation. What attacks do with logits stays float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from segbench.config.matrix import Precision


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


@contextlib.contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Let a GPU round the factors of float32 products to TF32 inside, for "tf32", or keep all their bits.

    By itself, torch rounds them in convolutions and not in products of matrices.
    """
    cudnn = torch.backends.cudnn
    rounding, before = precision == "tf32", torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if rounding else "highest")
    try:
        with cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=rounding,
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
