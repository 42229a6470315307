"""ALMAProx: a proximal augmented Lagrangian method for the smallest L_inf change that fools nearly all pixels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.losses import margin, predicted
from segbench.attacks.tools.projections import project
from segbench.attacks.tools.targets import Target, goal

Slope = Literal["derivative", "released"]

MU, RHO = 1.0, 0.01
"""Initial multiplier and penalty parameter of every pixel's constraint."""
CHECK, TAU, GAMMA = 10, 0.95, 2.0
"""Every CHECK steps, the penalty of a constraint that did not fall to TAU of its value is multiplied by GAMMA."""
SMOOTHING = 0.8
"""Smoothing factor of the multipliers and of the squared gradient."""
W_SMALLEST, W_LARGEST, W_RATE = 0.1, 1.0, 0.02
"""Range of the common weight of all constraints, and its rate of change per step."""
LAST_STEP = 0.1
"""Final step size as a share of alpha."""
TOLERANCE = 1e-4
SEARCH = 30


@attack("almaprox", version=2, minimises="linf")
def almaprox(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float | None = None,
    alpha: float = 0.001,
    steps: int = 500,
    share: float = 0.99,
    slope: Slope = "derivative",
    target: Target | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """ALMAProx: searches the smallest L_inf change that fools a share (99 %) of an image's pixels.

    Every pixel has a constraint (difference-of-logits ratio + 1e-4 < 0), which enters a penalty with its own
    multiplier. A gradient step in a diagonal metric is followed by the proximal step of the L_inf norm and the box. An
    image that never reaches the share keeps the iterate with the most wrong pixels.

    Args:
        model: network, images -> logits of at least 3 classes (with a target 4).
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: L_inf radius to which every iterate is clipped, in [0, 1] units; the result is then the iterate with the
            most wrong pixels. None does not clip, so that the distance of the images is the result.
        alpha: initial step size; the last step has a tenth of it.
        steps: number of steps.
        share: share of the valid pixels to fool, in [0, 1].
        slope: slope of the penalty for a violated constraint y >= 0 with multiplier mu and penalty parameter rho:
            "derivative" is the derivative of the penalty, mu + 2 mu rho y + rho^2 y^2 / 2; "released" is the slope in
            the backward pass of the released code, mu y + 2 mu rho y + rho^2 y^2 / 2.
        target: class or label map (see `tools.targets`) to drive the prediction towards; None drives it away from the
            masks.
        ignore_index: label of void pixels.

    Source: Rony et al. 2023, https://arxiv.org/abs/2206.07179, with the constants of its released code,
        https://github.com/jeromerony/adversarial-library.
    Departs from it in: by default the slope of the penalty is its derivative; the released code starts with mu y in
        place of mu, so that a nearly satisfied constraint has almost no weight. The proximal step is found by bisection
        of its derivative, not by ternary search.
    """
    labels = goal(masks, target, ignore_index=ignore_index)
    valid = labels != ignore_index
    count = valid.flatten(1).sum(1)
    change = torch.zeros_like(images)
    squares = torch.zeros_like(images)
    mu = torch.full_like(masks, MU, dtype=torch.double)
    rho = torch.full_like(mu, RHO)
    weight = images.new_full((len(images),), W_LARGEST)
    found = torch.zeros_like(weight, dtype=torch.bool)
    found_at = torch.full_like(weight, steps // 2)
    best, best_distance, best_share = images, torch.full_like(weight, torch.inf), torch.zeros_like(weight)
    was_fooled = torch.zeros_like(valid)
    previous = mu

    for i in range(steps):
        change.requires_grad_()
        now = images + change
        logits = model(now)
        fooled = ((predicted(logits) == labels) ^ (target is None)) & valid
        reached = torch.where(count > 0, fooled.flatten(1).sum(1) / count.clamp_min(1), 1.0)
        success = reached >= share
        distance = change.detach().flatten(1).abs().amax(1)
        better = reached >= best_share
        if eps is None:
            better = (success & (distance <= best_distance)) | (~found & (reached >= best_share.clamp_max(share)))
        best = torch.where(_column(better), now.detach(), best)
        best_distance = torch.where(better, distance, best_distance)
        best_share = torch.where(better, reached, best_share)
        if i < steps // 2:
            found_at = torch.where(success & ~found, i, found_at)
        found = found | success

        weight = (weight / torch.where(success, 1 + W_RATE, 1 - W_RATE)).clamp(W_SMALLEST, W_LARGEST)
        constraints = weight.view(-1, 1, 1) * _logit_ratio(logits, labels, target is not None, ignore_index)
        values = constraints.detach()
        kept = valid & _without_hardest(values, valid, ((1 - share) * count * i / max(steps - 1, 1)).long())

        was_fooled = was_fooled | fooled
        if i == 0:
            previous = values
        elif (i + 1) % CHECK == 0:
            improved = values * kept <= TAU * previous
            rho = torch.where(was_fooled | improved, rho, GAMMA * rho)
            previous, was_fooled = values, torch.zeros_like(was_fooled)
        if i > 0:
            weights = _penalty_slope(values.double(), rho, mu, slope) * kept
            mu = (SMOOTHING * mu + (1 - SMOOTHING) * weights).clamp(1e-12, 1)

        weights = (_penalty_slope(values.double(), rho, mu, slope) * kept).to(values)
        (gradient,) = torch.autograd.grad(constraints, change, weights)
        size = alpha * _decay(i, steps, found_at)
        squares = SMOOTHING * squares + (1 - SMOOTHING) * gradient.square()
        metric = (squares / (1 - SMOOTHING ** (i + 1))).sqrt().clamp_min(1e-8)
        change = proximal_linf(change.detach() - _column(size) / metric * gradient, size, metric, images)
        if eps is not None:
            change = change.clamp(-eps, eps)

    return best if eps is None else project(best, images, "linf", eps)


def proximal_linf(change: Tensor, size: Tensor, metric: Tensor, images: Tensor) -> Tensor:
    """Return the p that minimises size * max|p| + sum(metric * (p - change)^2) / 2 with images + p in [0, 1].

    For a given maximum t of |p|, the best p is `change` clipped to the box and to t. Only t is searched: the objective
    is convex in t, with derivative size - sum of metric * (|change| - t) over the clipped values.

    Args:
        change: perturbation before the step, (N, 3, H, W).
        size: (N,) weight of the norm.
        metric: (N, 3, H, W), positive.
        images: (N, 3, H, W) in [0, 1].
    """
    boxed = torch.minimum(torch.maximum(change, -images), 1 - images)
    lengths, wanted = boxed.abs().flatten(1), change.abs().flatten(1)
    metric = metric.flatten(1)
    low, high = torch.zeros_like(size), lengths.amax(1)
    for _ in range(SEARCH):
        middle = (low + high) / 2
        pull = (metric * (wanted - middle[:, None])).where(lengths > middle[:, None], 0).sum(1)
        low, high = torch.where(pull > size, middle, low), torch.where(pull > size, high, middle)
    largest = _column((low + high) / 2)
    return torch.minimum(torch.maximum(boxed, -largest), largest)


def _logit_ratio(logits: Tensor, labels: Tensor, targeted: bool, ignore_index: int) -> Tensor:
    """Return the signed difference-of-logits ratio plus the tolerance, (N, H, W): negative at fooled pixels."""
    needed = 4 if targeted else 3
    if logits.shape[1] < needed:
        with_target = " with a target" if targeted else ""
        raise ValueError(f"almaprox{with_target} needs logits of at least {needed} classes, got {logits.shape[1]}")
    highest = logits.topk(needed, dim=1).values
    spread = highest[:, 0] - highest[:, 2:].mean(1)
    margins = margin(logits, labels, ignore_index=ignore_index)
    return ((-margins if targeted else margins) + TOLERANCE) / (spread + 1e-8)


def _without_hardest(constraints: Tensor, valid: Tensor, drop: Tensor) -> Tensor:
    """Return which pixels are not among the `drop` largest constraints of their image, (N, H, W) bool."""
    most = int(drop.max()) + 1
    largest = constraints.where(valid, -torch.inf).flatten(1).topk(most).values
    return constraints <= largest.gather(1, drop[:, None]).unsqueeze(2)


def _penalty_slope(constraints: Tensor, rho: Tensor, mu: Tensor, slope: Slope) -> Tensor:
    """Return the slope of the penalty: see `almaprox` for y >= 0, and mu / (1 - max(rho, 1) y)^2 for y < 0."""
    above, below = constraints.clamp_min(0), constraints.clamp_max(0)
    rising = (mu if slope == "derivative" else mu * above) + 2 * mu * rho * above + rho.square() * above.square() / 2
    return torch.where(constraints >= 0, rising, mu / (1 - rho.clamp_min(1) * below).square())


def _decay(i: int, steps: int, found_at: Tensor) -> Tensor:
    """Return the step size relative to the initial one: 1 until the image is first fooled, then down to LAST_STEP."""
    tangent = LAST_STEP / (1 - LAST_STEP) * (steps - found_at).clamp_min(1)
    return tangent / ((i - found_at).clamp_min(0) + tangent)


def _column(per_image: Tensor) -> Tensor:
    return per_image.view(-1, 1, 1, 1)
