"""Projections onto the eps ball and onto [0, 1], and steps of a given length."""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.attacks.tools.budget import Norm


def project(adversarial: Tensor, images: Tensor, norm: Norm, eps: float) -> Tensor:
    """Project onto the ball of radius `eps` around `images`, then onto [0, 1].

    The second projection never leaves the ball, because the clean images are in [0, 1].

    Args:
        adversarial: images to project, (N, 3, H, W).
        images: clean images, the centres of the balls, in [0, 1].
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        eps: radius in [0, 1] units.
    """
    if norm == "linf":
        adversarial = torch.minimum(torch.maximum(adversarial, images - eps), images + eps)
    else:
        adversarial = images + shrink(adversarial - images, norm, eps)
    return adversarial.clamp(0, 1)


def shrink(change: Tensor, norm: Norm, eps: float) -> Tensor:
    """Project perturbations onto the ball of radius `eps` around zero.

    Args:
        change: perturbations, (N, 3, H, W).
        norm: "linf", "l2" or "rms".
        eps: radius in [0, 1] units.
    """
    if norm == "linf":
        return change.clamp(-eps, eps)
    radius = l2_radius(change, norm, eps)
    length = change.double().flatten(1).norm(dim=1).clamp_min(1e-30)
    factor: Tensor = (radius / length).clamp_max(1).to(change)
    return change * factor.view(-1, 1, 1, 1)


def step(gradient: Tensor, norm: Norm, alpha: float) -> Tensor:
    """Return each image's steepest ascent step of length `alpha`.

    With "linf" this is alpha times the sign of the gradient, with "l2" and "rms" the gradient scaled to length alpha.

    Args:
        gradient: input gradient, (N, 3, H, W); an image with zero gradient gets a zero step.
        norm: "linf", "l2" or "rms".
        alpha: length of the step, in the units of the norm.
    """
    if norm == "linf":
        return alpha * gradient.sign()
    largest = gradient.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
    scaled = gradient / torch.where(largest > 0, largest, 1)
    length = scaled.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return l2_radius(gradient, norm, alpha) * scaled / torch.where(length > 0, length, 1)


def l2_radius(images: Tensor, norm: Norm, eps: float) -> float:
    """Convert `eps` to a Euclidean radius: unchanged for "l2", times the square root of 3HW for "rms"."""
    return float(eps) if norm == "l2" else float(eps * images[0].numel() ** 0.5)
