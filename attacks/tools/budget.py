"""Threat models, and the check that adversarial images keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2", "rms"]
Access = Literal["none", "logits", "gradients"]


@dataclass(frozen=True)
class ThreatModel:
    """What an attack may change in an image.

    Attributes:
        norm: "linf" (largest change of a value), "l2" (Euclidean norm of an image's change) or "rms" (the same
            divided by the square root of the number of values); None where no norm bounds the change.
        eps: radius of the ball, in [0, 1] units; None where nothing bounds the change.
        access: what the attacker uses of the network: "none", "logits" or "gradients".
    """

    norm: Norm | None
    eps: float | None
    access: Access


class BudgetExceeded(RuntimeError):
    """An attack returned images that its threat model does not allow."""


def check_budget(adversarial: Tensor, images: Tensor, threat: ThreatModel, *, tolerance: float = 1e-6) -> None:
    """Raise unless a batch is finite, in [0, 1] and within its threat model; computed in float64.

    Args:
        adversarial: images after the attack, (N, 3, H, W).
        images: the same before it.
        threat: the bound to keep.
        tolerance: how far rounding may exceed it, in [0, 1] units.

    Raises:
        BudgetExceeded: with what is exceeded and by how much.
    """
    if adversarial.shape != images.shape:
        raise BudgetExceeded(f"images changed shape from {tuple(images.shape)} to {tuple(adversarial.shape)}")
    if not torch.isfinite(adversarial).all():
        raise BudgetExceeded("adversarial images hold values that are not finite")
    low, high = adversarial.min().item(), adversarial.max().item()
    if low < -tolerance or high > 1 + tolerance:
        raise BudgetExceeded(f"adversarial images leave [0, 1]: they span {low:.6g} to {high:.6g}")
    if threat.norm is not None and threat.eps is not None:
        used = distance(adversarial, images, threat.norm).max().item()
        if used > threat.eps + tolerance:
            raise BudgetExceeded(f"{threat.norm} distance {used:.8g} exceeds eps {threat.eps:.8g}")


def distance(adversarial: Tensor, images: Tensor, norm: Norm) -> Tensor:
    """Return how far each image was moved, (N,) float64, in the units of `ThreatModel.eps`."""
    change = (adversarial.double() - images.double()).flatten(1)
    if norm == "linf":
        return change.abs().amax(1)
    length: Tensor = torch.linalg.vector_norm(change, dim=1)
    return length if norm == "l2" else length / change.shape[1] ** 0.5
