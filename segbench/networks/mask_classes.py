"""Networks that classify masks, such as Mask2Former, as networks that classify pixels."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCORES = "log class scores"
"""What such a network gives in place of logits, as its identity says it."""


class MaskClassifier(nn.Module):
    """A network of transformers that classifies masks, as images -> log class scores (N, C, h, w).

    The score of a class at a pixel is the sum over queries of the probability of the class (softmax, of which
    "no object" is dropped) times the probability of the mask (sigmoid). Its logarithm stands in the place of a logit:
    the largest is at the same class, and its softmax is the score's share of all scores.

    Args:
        network: normalised images -> object with `class_queries_logits` (N, Q, C + 1) and `masks_queries_logits`
            (N, Q, h, w).
        masks_size: height and width that mask logits are resized to first; null to leave them as they are.
        task: the tokens (1, L) of the task that the network is told; null for a network of one task.
        window: side of the square windows that images are shown in, of which each has the image's short side; scores
            are averaged where windows overlap. Null to show images whole.

    Source: Cheng, Schwing, Kirillov, "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021,
        section 3.4, https://arxiv.org/abs/2107.06278; for sizes and windows, post_process_semantic_segmentation of
        the image processors of transformers.
    """

    task: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        masks_size: tuple[int, int] | None = None,
        task: Tensor | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.masks_size = masks_size
        self.window = window
        self.register_buffer("task", task)

    def forward(self, images: Tensor) -> Tensor:
        """Return log class scores (N, C, h, w) of normalised images (N, 3, H, W), at the scale of the masks."""
        if self.window is None:
            return self._scores(images)
        height, width = images.shape[-2:]
        longer = int(self.window * max(height, width) / min(height, width))
        upright = height > width
        size = (longer, self.window) if upright else (self.window, longer)
        shown = F.interpolate(images, size, mode="bilinear", antialias=True)
        axis = -2 if upright else -1
        found = []
        for start in window_starts(longer, self.window):
            rest = longer - start - self.window
            scores = self._scores(shown.narrow(axis, start, self.window))
            found.append(F.pad(scores, (0, 0, start, rest) if upright else (start, rest), value=-math.inf))
        stacked = torch.stack(found)
        return stacked.logsumexp(0) - stacked.isfinite().sum(0).log()

    def _scores(self, images: Tensor) -> Tensor:
        told = {} if self.task is None else {"task_inputs": self.task.expand(len(images), -1)}
        answer: Any = self.network(images, **told)
        masks = answer.masks_queries_logits
        if self.masks_size is not None:
            masks = F.interpolate(masks, self.masks_size, mode="bilinear", align_corners=False)
        return log_class_scores(answer.class_queries_logits, masks)


def log_class_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Return the logarithm of sum over queries of softmax(class without the last) x sigmoid(mask).

    Everything is computed from logarithms, in float64 and relative to the largest of each pixel and each class. So
    gradients stay exact where probabilities round to 0 or 1 in float32; they vanish only where a score is below e^-700
    of the largest that it could be.

    Args:
        class_logits: (N, Q, C + 1); the last is of no object.
        mask_logits: (N, Q, h, w).

    Returns:
        (N, C, h, w), in the type of `mask_logits`.
    """
    classes = class_logits.double().log_softmax(-1)[..., :-1]
    masks = F.logsigmoid(mask_logits.double())
    top_classes, top_masks = classes.detach().amax(1, keepdim=True), masks.detach().amax(1, keepdim=True)
    scores = torch.einsum("nqc,nqhw->nchw", (classes - top_classes).exp(), (masks - top_masks).exp())
    logs = scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
    return (logs + top_classes.squeeze(1)[..., None, None] + top_masks).to(mask_logits.dtype)


def resized(logs: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize scores, bilinear, where their logarithms (N, C, h, w) are given and returned.

    It is the logarithm of `interpolate(exp(logs), size, mode="bilinear", align_corners=False)`, without rounding small
    scores to 0.
    """
    for axis, length in zip((-2, -1), size, strict=True):
        logs = _along(logs, axis, length)
    return logs


def window_starts(length: int, window: int) -> list[int]:
    """Return where the least number of windows that cover a length start, as far apart from each other as possible."""
    count = math.ceil(length / window)
    overlap = (count * window - length) / max(count - 1, 1)
    return [int(index * (window - overlap)) for index in range(count)]


def _along(logs: Tensor, axis: int, length: int) -> Tensor:
    old = logs.shape[axis]
    if old == length:
        return logs
    places = ((torch.arange(length, dtype=torch.float64) + 0.5) * old / length - 0.5).clamp_min(0)
    before = places.floor().long().clamp_max(old - 1)
    after = (before + 1).clamp_max(old - 1)
    share = (places - before).view(-1, 1) if axis == -2 else places - before
    pairs = (
        logs.index_select(axis, index.to(logs.device)) + weight.log().to(logs)
        for index, weight in ((before, 1 - share), (after, share))
    )
    return torch.logaddexp(*pairs)
