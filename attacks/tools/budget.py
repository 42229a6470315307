"""Threat models, and the check that adversarial images stay within them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2", "rms"]
Access = Literal["none", "labels", "logits", "gradients"]


@dataclass(frozen=True)
class ThreatModel:
    """How far an attack may change an image, and what it may know about the network.

    Attributes:
        norm: "linf" (largest change of any value), "l2" (Euclidean norm of the image's change) or "rms" (the L2 norm
            divided by the square root of the number of values). None if the change is unbounded.
        eps: radius of the ball, in [0, 1] units. None if the change is unbounded.
        access: what the attack reads from the network: "none", "labels", "logits" or "gradients".
        region: where pixels may change: "patch", or of an attack that hides objects "all", "object", "surroundings" or
            "map". None for every attack that may change all pixels and hides no object.
        area: share of the image that a patch covers before it is scaled; None for all other regions.
    """

    norm: Norm | None
    eps: float | None
    access: Access
    region: str | None = None
    area: float | None = None


class BudgetExceeded(RuntimeError):
    """An attack returned images outside its threat model."""


def check_budget(
    adversarial: Tensor,
    images: Tensor,
    threat: ThreatModel,
    *,
    allowed: Tensor | None = None,
    tolerance: float = 1e-6,
) -> None:
    """Check in float64 that adversarial images are finite, in [0, 1] and within their threat model.

    Args:
        adversarial: images after the attack, (N, 3, H, W).
        images: clean images, (N, 3, H, W).
        threat: the threat model of the attack.
        allowed: pixels that may change, (N, H, W) bool, where the threat model has a region (see
            `attacks.base.BoundAttack.allowed`); all others keep every bit.
        tolerance: allowance for rounding errors, in [0, 1] units.

    Raises:
        BudgetExceeded: the images break the threat model; the message says how and by how much.
        ValueError: the threat model has a region, and the pixels of it are not given.
    """
    if threat.region is not None and allowed is None:
        raise ValueError(f"changes are limited to a region ({threat.region}): pass the pixels that may change, allowed")
    if adversarial.shape != images.shape:
        raise BudgetExceeded(
            f"the attack changed the shape of the images from {tuple(images.shape)} to {tuple(adversarial.shape)}"
        )
    if not torch.isfinite(adversarial).all():
        raise BudgetExceeded("adversarial images contain NaN or infinite values")
    low, high = adversarial.min().item(), adversarial.max().item()
    if low < -tolerance or high > 1 + tolerance:
        raise BudgetExceeded(f"adversarial images leave [0, 1]: they span {low:.6g} to {high:.6g}")
    if allowed is not None:
        changed = ((adversarial != images).any(1) & ~allowed).flatten(1).sum(1)
        if changed.any():
            raise BudgetExceeded(
                f"{int(changed.max())} pixels of an image changed outside of its {threat.region} region"
            )
    if threat.norm is not None and threat.eps is not None:
        used = distance(adversarial, images, threat.norm).max().item()
        if used > threat.eps + tolerance:
            raise BudgetExceeded(f"{threat.norm} distance {used:.8g} exceeds eps {threat.eps:.8g}")


def distance(adversarial: Tensor, images: Tensor, norm: Norm) -> Tensor:
    """Return the distance between each adversarial and clean image, (N,) float64, in the units of `ThreatModel.eps`."""
    # On a processor one image at a time, which stays in its cache.
    together = 1 if images.device.type == "cpu" else max(1, len(images))
    pairs = zip(torch.split(adversarial, together), torch.split(images, together), strict=True)
    return torch.cat([_length(one.double() - other, norm) for one, other in pairs])


def _length(change: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return change.abs_().amax((1, 2, 3))
    flat = change.flatten(1)
    length: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return length if norm == "l2" else length / flat.shape[1] ** 0.5
