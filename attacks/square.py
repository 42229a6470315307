"""Square attack for segmentation: a random search that needs only logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attacks.base import Generators, attack
from attacks.losses import carlini_wagner, image_mean, right_pixels

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the share of an image that a square covers is halved."""


@attack("square", access="logits")
def square(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    queries: int = 1000,
    share: float = 0.8,
    ignore_index: int = 255,
    generator: Generators = (),
) -> Tensor:
    """Square attack: random squares of change +-eps per channel, kept where they raise the image's margin loss.

    Starts from vertical stripes of +-eps. The loss is the mean over valid pixels of minus the margin of the true logit,
    which counts no further once a pixel is wrong; an image of which no pixel is right makes no more queries.

    Args:
        model: network, images -> logits; no gradients are taken.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball under "linf", in [0, 1] units.
        queries: largest number of forward passes per image.
        share: of the image that the first squares cover; it halves as in the paper.
        ignore_index: label of void pixels.
        generator: source of the squares, one per image.

    Source: Andriushchenko et al. 2020, algorithms 1 and 2, https://arxiv.org/abs/1912.00049.
    Departs from it in: the loss of an image is the mean of its pixels' margin losses, since a segmentation has no one
        margin.
    """
    has_valid = (masks != ignore_index).flatten(1).any(1)
    running = has_valid.nonzero().flatten()
    adversarial = images.clone()
    stripes = torch.stack([_signs(g, images.shape[3]).view(3, 1, -1) for g in generator]).to(images)
    adversarial[running] = (images + eps * stripes).clamp(0, 1)[running]
    best, running = _query(model, adversarial, masks, running, ignore_index)
    for query in range(1, queries):
        if not len(running):
            break
        side = window_side(query, queries, share, images.shape[2:])
        tried = adversarial.clone()
        for i in running.tolist():
            rows, columns = _window(generator[i], side, images.shape[2:])
            signs = _signs(generator[i], 1).view(3, 1, 1).to(images)
            tried[i, :, rows, columns] = (images[i, :, rows, columns] + eps * signs).clamp(0, 1)
        losses, unfinished = _query(model, tried, masks, running, ignore_index)
        better = losses > best
        adversarial[running[better]] = tried[running[better]]
        best = torch.where(better, losses, best)
        kept = torch.isin(running, unfinished)
        best, running = best[kept], running[kept]
    return adversarial


def window_side(query: int, queries: int, share: float, size: torch.Size) -> int:
    """Return the side of the square at a query, in pixels.

    Args:
        query: which one, from 1.
        queries: number of queries in all; the schedule is stretched to it.
        share: of the image that the first squares cover.
        size: height and width of the image.
    """
    halvings = sum(query * 10_000 // queries > at for at in HALVINGS)
    covered = share / 2.0**halvings * size[0] * size[1]
    side = max(round(math.sqrt(covered)), 1)
    return min(side, size[0], size[1])


def _query(
    model: nn.Module, images: Tensor, masks: Tensor, running: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Return the losses of the running images, and which of these still have a right pixel."""
    labels = masks[running]
    with torch.no_grad():
        logits = model(images[running]) if len(running) else images.new_zeros(0, 2, *images.shape[2:])
    losses = image_mean(carlini_wagner(logits, labels, ignore_index=ignore_index), labels, ignore_index=ignore_index)
    return losses, running[right_pixels(logits, labels, ignore_index=ignore_index) > 0]


def _signs(generator: torch.Generator, count: int) -> Tensor:
    return torch.randint(2, (3, count), generator=generator) * 2.0 - 1


def _window(generator: torch.Generator, side: int, size: torch.Size) -> tuple[slice, slice]:
    top, left = (int(torch.randint(length - side + 1, (1,), generator=generator)) for length in size)
    return slice(top, top + side), slice(left, left + side)
