"""ALMAProx: the least L_inf change that fools nearly all pixels, by a proximal augmented Lagrangian method."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.losses import margin
from segbench.attacks.tools.projections import project
from segbench.attacks.tools.targets import Target, goal

MU, RHO = 1.0, 0.01
"""Initial multiplier and penalty parameter of every pixel's constraint."""
CHECK, TAU, GAMMA = 10, 0.95, 2.0
"""Every CHECK steps, a constraint that did not fall to TAU of its value gets GAMMA times the penalty."""
SMOOTHING = 0.8
"""Of the multipliers and of the squared gradient."""
W_SMALLEST, W_LARGEST, W_RATE = 0.1, 1.0, 0.02
"""Range of the constraints' common weight, and how fast it moves."""
LAST_STEP = 0.1
"""Final step size as a share of alpha."""
TOLERANCE = 1e-4
SEARCH = 30


@attack("almaprox", minimises="linf")
def almaprox(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float | None = None,
    alpha: float = 0.001,
    steps: int = 500,
    share: float = 0.99,
    target: Target | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """ALMAProx: searches the least L_inf change after which a share of an image's pixels is wrong.

    A constraint per pixel (difference-of-logits ratio + 1e-4 < 0) enters a penalty with its own multiplier; a gradient
    step in a diagonal metric is followed by the proximal step of the L_inf norm and the box. An image that never
    reaches the share keeps the iterate with the most wrong pixels.

    Args:
        model: network, images -> logits of at least 3 classes (with a target 4).
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius to which the result is clipped, in [0, 1] units; None leaves it as it is, so that its
            distance is the result.
        alpha: initial step size; it falls to a tenth.
        steps: number of steps.
        share: of the valid pixels to fool, in [0, 1].
        target: class, or map of labels (see `tools.targets`), to push every valid pixel to; None pushes away from the
            masks.
        ignore_index: label of void pixels.

    Source: Rony et al. 2023, https://arxiv.org/abs/2206.07179, with the constants of its released code.
    Departs from it in: the proximal step is found by bisection of its derivative in place of a ternary search.
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
        fooled = ((logits.argmax(1) == labels) ^ (target is None)) & valid
        reached = torch.where(count > 0, fooled.flatten(1).sum(1) / count.clamp_min(1), 1.0)
        success = reached >= share
        distance = change.detach().flatten(1).abs().amax(1)
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
            slope = _penalty_slope(values.double(), rho, mu) * kept
            mu = (SMOOTHING * mu + (1 - SMOOTHING) * slope).clamp(1e-12, 1)

        slope = (_penalty_slope(values.double(), rho, mu) * kept).to(values)
        (gradient,) = torch.autograd.grad(constraints, change, slope)
        size = alpha * _decay(i, steps, found_at)
        squares = SMOOTHING * squares + (1 - SMOOTHING) * gradient.square()
        metric = (squares / (1 - SMOOTHING ** (i + 1))).sqrt().clamp_min(1e-8)
        change = proximal_linf(change.detach() - _column(size) / metric * gradient, size, metric, images)

    return best if eps is None else project(best, images, "linf", eps)


def proximal_linf(change: Tensor, size: Tensor, metric: Tensor, images: Tensor) -> Tensor:
    """Return the p that minimises size * max|p| + sum(metric * (p - change)^2) / 2 with images + p in [0, 1].

    For a given largest value t the best p is `change` clipped to the box and to t, so that only t is searched: the
    objective is convex in it, with derivative size - sum of metric * (|change| - t) over the clipped values.

    Args:
        change: (N, 3, H, W).
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
    """Signed difference-of-logits ratio plus the tolerance, (N, H, W): negative where a pixel is fooled."""
    needed = 4 if targeted else 3
    if logits.shape[1] < needed:
        raise ValueError(f"almaprox needs logits of at least {needed} classes here, got {logits.shape[1]}")
    highest = logits.topk(needed, dim=1).values
    spread = highest[:, 0] - highest[:, 2:].mean(1)
    margins = margin(logits, labels, ignore_index=ignore_index)
    return ((-margins if targeted else margins) + TOLERANCE) / (spread + 1e-8)


def _without_hardest(constraints: Tensor, valid: Tensor, drop: Tensor) -> Tensor:
    """Say of each pixel whether it is not among the `drop` largest constraints of its image."""
    most = int(drop.max()) + 1
    largest = constraints.where(valid, -torch.inf).flatten(1).topk(most).values
    return constraints <= largest.gather(1, drop[:, None]).unsqueeze(2)


def _penalty_slope(constraints: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """Derivative of the penalty: mu + 2 mu rho y + rho^2 y^2 / 2 for y >= 0, mu / (1 - max(rho, 1) y)^2 below."""
    above, below = constraints.clamp_min(0), constraints.clamp_max(0)
    rising = mu + 2 * mu * rho * above + rho.square() * above.square() / 2
    return torch.where(constraints >= 0, rising, mu / (1 - rho.clamp_min(1) * below).square())


def _decay(i: int, steps: int, found_at: Tensor) -> Tensor:
    """Share of the initial step size at step i: 1 until an image is first fooled, then hyperbolic to LAST_STEP."""
    tangent = LAST_STEP / (1 - LAST_STEP) * (steps - found_at).clamp_min(1)
    return tangent / ((i - found_at).clamp_min(0) + tangent)


def _column(per_image: Tensor) -> Tensor:
    return per_image.view(-1, 1, 1, 1)
