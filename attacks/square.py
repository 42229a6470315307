"""Square attack for segmentation: a random search that needs only logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.losses import image_mean, right_pixels, soft_margin, typical_margin
from segbench.attacks.tools.noise import Generators

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Numbers of queries, of 10,000, after which the share of the image that a square covers is halved."""


WIDTH = 0.05
"""Width of the margin loss; see `attacks.tools.losses.soft_margin`."""


@attack("square", version=3, access="logits")
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
    """Square attack: random search with squares of +-eps per channel; keeps a square if it raises the margin loss.

    The search starts from vertical stripes of +-eps. The loss is the mean over valid pixels of -m / (|m| + w), where m
    is the margin of the true logit and w is 1/20 of the mean |m| under the stripes. Pixels of classes that the network
    does not know do not enter the mean |m|. The search stops on an image as soon as no pixel of it is correct.

    Args:
        model: network, images -> logits; its gradients are not used.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: L_inf radius of the ball, in [0, 1] units.
        queries: maximum number of forward passes per image.
        share: share of the image that the first squares cover; it is halved as in the paper.
        ignore_index: label of void pixels.
        generator: random generators for the squares, one per image.

    Source: Andriushchenko et al. 2020, algorithms 1 and 2, https://arxiv.org/abs/1912.00049.
    Departs from it in: the loss is close to a count of correct pixels, because a segmentation has a margin per pixel; a
        sum of margins would mostly measure pixels that are out of reach.
    """
    running = (masks != ignore_index).flatten(1).any(1).nonzero().flatten()
    adversarial = images.clone()
    best = torch.full_like(images[running, 0, 0, 0], -torch.inf)
    typical: Tensor | None = None
    for query in range(queries):
        if not len(running):
            break
        tried = adversarial.clone()
        side = window_side(query, queries, share, images.shape[2:])
        for i in running.tolist():
            if query == 0:
                stripes = random_signs(generator[i], images.shape[3]).view(3, 1, -1).to(images, non_blocking=True)
                tried[i] = (images[i] + eps * stripes).clamp(0, 1)
                continue
            rows, columns = random_window(generator[i], side, images.shape[2:])
            signs = random_signs(generator[i], 1).view(3, 1, 1).to(images, non_blocking=True)
            tried[i, :, rows, columns] = (images[i, :, rows, columns] + eps * signs).clamp(0, 1)
        labels = masks[running]
        with torch.no_grad():
            logits = model(tried[running])
        if typical is None:
            typical = typical_margin(logits, labels, ignore_index=ignore_index)
        values = soft_margin(logits, labels, width=WIDTH, typical=typical, ignore_index=ignore_index)
        losses = image_mean(values, labels, ignore_index=ignore_index)
        unfinished = right_pixels(logits, labels, ignore_index=ignore_index) > 0
        better = (losses > best) | ~unfinished
        adversarial[running[better]] = tried[running[better]]
        best = torch.where(better, losses, best)[unfinished]
        running, typical = running[unfinished], typical[unfinished]
    return adversarial


def window_side(query: int, queries: int, share: float, size: torch.Size) -> int:
    """Return the side of the square at a query, in pixels.

    Args:
        query: number of the query, from 1.
        queries: total number of queries; the schedule is stretched to it.
        share: share of the image that the first squares cover.
        size: height and width of the image.
    """
    halvings = sum(query * 10_000 // queries > at for at in HALVINGS)
    covered = share / 2.0**halvings * size[0] * size[1]
    side = max(round(math.sqrt(covered)), 1)
    return min(side, size[0], size[1])


def random_signs(generator: torch.Generator, count: int) -> Tensor:
    """Draw `count` colours of -1 and 1 per channel, (3, count)."""
    return torch.randint(2, (3, count), generator=generator) * 2.0 - 1


def random_window(generator: torch.Generator, side: int, size: torch.Size) -> tuple[slice, slice]:
    """Draw the rows and columns of a square inside an image of height and width `size`."""
    top, left = (int(torch.randint(length - side + 1, (1,), generator=generator)) for length in size)
    return slice(top, top + side), slice(left, left + side)
