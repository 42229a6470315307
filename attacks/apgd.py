"""Auto-PGD (APGD): projected gradient ascent with momentum and an adaptive step size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.segpgd import segpgd_loss, segpgd_weight
from segbench.attacks.tools.ascent import Keep, random_start
from segbench.attacks.tools.losses import (
    PixelLoss,
    counted_classes,
    cross_entropy,
    image_mean,
    input_gradient,
    named_loss,
    right_pixels,
)
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.projections import project, step

RHO = 0.75
MOMENTUM = 0.75

Loss = Literal["ce", "masked-ce", "balanced-masked-ce", "js", "masked-spherical", "cw-margin", "segpgd"]


@attack("apgd", version=3)
def apgd(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    steps: int = 100,
    loss: Loss = "ce",
    keep: Keep = "accuracy",
    norm: Norm = "linf",
    ignore_index: int = 255,
    generator: Generators = (),
    class_pixels: Tensor | None = None,
) -> Tensor:
    """Auto-PGD: PGD with momentum and a step size that starts at 2 eps and is halved when progress stalls.

    The cross-entropy controls the step size, whichever loss provides the gradient. The start is uniform in the ball.
    The attack returns the best iterate of each image. With keep="accuracy" it stops on an image as soon as no pixel of
    it is classified correctly.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        steps: number of steps.
        loss: loss whose gradient is followed: "ce", "masked-ce" (correct pixels only), "balanced-masked-ce" (divided by
            the training pixels of the class), "js" (Jensen-Shannon), "masked-spherical", "cw-margin" (see
            `tools.losses`), or "segpgd": cross-entropy with the weights of SegPGD, which change with the step.
        keep: the iterate that is returned for each image: "accuracy" keeps the one with the fewest correctly classified
            pixels, "loss" the one with the largest mean cross-entropy.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        ignore_index: label of void pixels.
        generator: random generators for the start, one per image.
        class_pixels: (C,) number of training pixels of each class, for "balanced-masked-ce". None counts the classes in
            `masks`, with a warning.

    Source: Croce and Hein 2020, algorithm 1, https://arxiv.org/abs/2003.01690; losses and control by cross-entropy from
        Croce et al. 2024, https://arxiv.org/abs/2306.12941; weights of SegPGD by Gu et al. 2022,
        https://arxiv.org/abs/2207.12391.
    Departs from it in: by default the iterate with the fewest correctly classified pixels is returned, because an
        attack seldom fools every pixel of an image. Checkpoints are rounded down as in the released code; the paper
        rounds them up. In two points this follows the paper and not the released code: the step size is halved if fewer
        than 75 % of the steps raised the loss, not at exactly 75 %, and already at the first checkpoint if the loss has
        not risen since the start.
    """
    if class_pixels is None and loss == "balanced-masked-ce":
        class_pixels = counted_classes(masks, "apgd", ignore_index=ignore_index)
    raised: PixelLoss | Sequence[PixelLoss]
    if loss == "segpgd":
        raised = segpgd_losses(steps, ignore_index=ignore_index)
    else:
        raised = named_loss(loss, ignore_index=ignore_index, class_pixels=class_pixels)
    start = random_start(images, masks, generator, eps=eps, norm=norm, ignore_index=ignore_index)
    return auto_pgd(
        model, images, masks, start, raised, eps=eps, steps=steps, keep=keep, norm=norm, ignore_index=ignore_index
    )


def segpgd_losses(steps: int, *, ignore_index: int = 255) -> list[PixelLoss]:
    """Return the losses of SegPGD for the gradients at the start and after each step; the last one takes no step."""
    weights = (segpgd_weight(min(t, steps), max(steps, 1)) for t in range(1, steps + 2))
    return [partial(segpgd_loss, weight=weight, ignore_index=ignore_index) for weight in weights]


class _State(NamedTuple):
    """The state of the attack; the first axis of every field is the image.

    Attributes:
        images: clean images, the centres of the balls.
        masks: labels.
        now: current iterate.
        before: previous iterate.
        gradient: gradient at the current iterate.
        loss: cross-entropy of the last measured iterate.
        best: iterate with the largest cross-entropy so far.
        best_gradient: gradient at `best`.
        best_loss: cross-entropy at `best`.
        checked_loss: `best_loss` at the last checkpoint.
        halved: whether the step size was halved at the last checkpoint.
        rises: number of steps since the last checkpoint that raised the cross-entropy.
        size: step size.
        right: smallest number of correctly classified pixels so far.
        worst: iterate with that number.
    """

    images: Tensor
    masks: Tensor
    now: Tensor
    before: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    checked_loss: Tensor
    halved: Tensor
    rises: Tensor
    size: Tensor
    right: Tensor
    worst: Tensor


def auto_pgd(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    start: Tensor,
    raised: PixelLoss | Sequence[PixelLoss],
    *,
    eps: float,
    steps: int,
    keep: Keep = "accuracy",
    norm: Norm = "linf",
    ignore_index: int = 255,
) -> Tensor:
    """Run Auto-PGD from a given start; see `apgd`.

    Args:
        model: network, images -> logits.
        images: clean images, the centres of the balls, (N, 3, H, W).
        masks: (N, H, W).
        start: first iterate, inside the balls, (N, 3, H, W).
        raised: loss whose gradient is followed; or one loss for the start and one for the iterate after each step.
        eps: radius of the ball, in [0, 1] units.
        steps: number of steps.
        keep: "accuracy" or "loss"; see `apgd`.
        norm: "linf", "l2" or "rms".
        ignore_index: label of void pixels.
    """
    result = start.clone()
    running = torch.arange(len(images), device=images.device)
    losses = raised if isinstance(raised, Sequence) else [raised] * (steps + 1)
    state = _begin(model, images, masks, start, losses[0], eps, ignore_index)
    checks = checkpoints(steps)
    last_check = 0
    for k in range(1, steps + 1):
        if keep == "accuracy":
            result[running] = state.worst
            unfinished = state.right > 0
            if not unfinished.all():
                running = running[unfinished]
                state = _State(*(field[unfinished] for field in state))
            if not len(running):
                return result
        momentum = MOMENTUM if k > 1 else 1.0
        state = _advance(model, state, losses[k], eps, norm, momentum, k == steps, ignore_index)
        if k in checks:
            state = _check(state, k - last_check)
            last_check = k
    result[running] = state.worst if keep == "accuracy" else state.best
    return result


def checkpoints(steps: int) -> frozenset[int]:
    """Return the steps at which the step size is reviewed.

    The first interval is 22 % of all steps. Every further one is shorter by 3 % of all steps, down to 6 %. These three
    numbers of steps are rounded down, but at least 1, as in the released code.
    """
    interval, shrink, shortest = (max(share * steps // 100, 1) for share in (22, 3, 6))
    found, at = [], interval
    while at <= steps:
        found.append(at)
        interval = max(interval - shrink, shortest)
        at += interval
    return frozenset(found)


def halve(rises: Tensor, window: int, halved: Tensor, checked_loss: Tensor, best_loss: Tensor) -> Tensor:
    """Return which images have their step size halved at a checkpoint, (N,) bool.

    Args:
        rises: number of steps since the last checkpoint that raised the loss, (N,).
        window: number of steps since the last checkpoint.
        halved: whether the step size was halved at the last checkpoint, (N,).
        checked_loss: largest loss up to the last checkpoint, (N,).
        best_loss: largest loss so far, (N,).
    """
    return (rises < RHO * window) | (~halved & (checked_loss >= best_loss))


def _begin(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    start: Tensor,
    raised: PixelLoss,
    eps: float,
    ignore_index: int,
) -> _State:
    gradient, loss, right = _measure(model, start, masks, raised, False, ignore_index)
    return _State(
        images=images,
        masks=masks,
        now=start,
        before=start,
        gradient=gradient,
        loss=loss,
        best=start,
        best_gradient=gradient,
        best_loss=loss,
        checked_loss=loss,
        halved=torch.zeros_like(loss, dtype=torch.bool),
        rises=torch.zeros_like(loss),
        size=torch.full_like(loss, 2 * eps),
        right=right,
        worst=start,
    )


def _advance(
    model: nn.Module,
    state: _State,
    raised: PixelLoss,
    eps: float,
    norm: Norm,
    momentum: float,
    final: bool,
    ignore_index: int,
) -> _State:
    """Take one step and evaluate it; the final step computes no gradient."""
    ahead = state.now + state.size.view(-1, 1, 1, 1) * step(state.gradient, norm, 1.0)
    ahead = project(ahead, state.images, norm, eps)
    moved = state.now + momentum * (ahead - state.now) + (1 - momentum) * (state.now - state.before)
    now = project(moved, state.images, norm, eps)
    gradient, loss, right = _measure(model, now, state.masks, raised, final, ignore_index)
    better = loss > state.best_loss
    fewer = right <= state.right
    return state._replace(
        now=now,
        before=state.now,
        gradient=gradient,
        loss=loss,
        rises=state.rises + (loss > state.loss),
        best=_where(better, now, state.best),
        best_gradient=_where(better, gradient, state.best_gradient),
        best_loss=torch.where(better, loss, state.best_loss),
        right=torch.where(fewer, right, state.right),
        worst=_where(fewer, now, state.worst),
    )


def _check(state: _State, window: int) -> _State:
    """Halve the step size of images whose progress stalls, and continue from their best iterate."""
    halved = halve(state.rises, window, state.halved, state.checked_loss, state.best_loss)
    return state._replace(
        size=torch.where(halved, state.size / 2, state.size),
        now=_where(halved, state.best, state.now),
        gradient=_where(halved, state.best_gradient, state.gradient),
        halved=halved,
        checked_loss=state.best_loss,
        rises=torch.zeros_like(state.rises),
    )


def _measure(
    model: nn.Module, images: Tensor, masks: Tensor, raised: PixelLoss, final: bool, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient (zeros in the final step), the cross-entropy and the number of correct pixels."""
    if final:
        with torch.no_grad():
            gradient, logits = torch.zeros_like(images), model(images)
    else:
        gradient, _, logits = input_gradient(model, images, masks, raised, ignore_index=ignore_index)
    control = partial(cross_entropy, ignore_index=ignore_index)
    loss = image_mean(control(logits, masks), masks, ignore_index=ignore_index)
    return gradient, loss, right_pixels(logits, masks, ignore_index=ignore_index)


def _where(choice: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(choice.view(-1, 1, 1, 1), yes, no)
