"""Images as 8-bit files: what is lost by rounding is lost towards the clean image, so that the budget holds."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segbench.attacks.tools.budget import Norm
from segbench.files import write_bytes
from segbench.leaderboard.images import encode

SLACK = 1e-4
"""A change that misses a whole level by less, which float32 does, counts as that level under L_inf."""


def levels(images: Tensor) -> Tensor:
    """Return clean images in [0, 1] as the nearest of 256 levels, uint8."""
    return (images.double() * 255).round().to(torch.uint8)


def towards_clean(adversarial: Tensor, clean: Tensor, norm: Norm | None) -> Tensor:
    """Return adversarial images as levels, each value rounded towards that of the clean image.

    No value moves away from the clean image, so that every norm of the change shrinks.

    Args:
        adversarial: in [0, 1], of the shape of `clean`.
        clean: levels, uint8.
        norm: of the attack's budget.
    """
    change = adversarial.double().cpu() * 255 - clean.double()
    if norm == "linf":
        change = change + SLACK * change.sign()
    return (clean.double() + change.trunc()).clamp(0, 255).to(torch.uint8)


def write_piece(path: Path, piece: Tensor) -> bytes:
    """Write levels (3, H, W) as a PNG file, and return its bytes."""
    pixels: NDArray[np.uint8] = np.ascontiguousarray(piece.permute(1, 2, 0).numpy())
    content = encode(pixels)
    write_bytes(path, content)
    return content


def read_piece(content: bytes) -> Tensor:
    """Return the levels (3, H, W) of a file that `write_piece` wrote."""
    with Image.open(io.BytesIO(content)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
