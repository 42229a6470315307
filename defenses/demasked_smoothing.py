"""Demasked smoothing: a vote over copies of the image in which all but some columns are masked and filled in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.defenses.base import Losses, defense, segmentation_loss
from segbench.model_zoo.base import Segmenter


class Demasked(nn.Module):
    """A vote of the network over copies of the image, each of which shows every `copies`-th strip of columns.

    A patch that is no wider than a strip touches two strips at most, and each copy shows strips of its own. With five
    copies or more, two of them can therefore not turn a label on which all others agree.

    The scores are numbers of votes plus half the mean probability, which decides between classes with as many votes. A
    vote has the gradient of its probability, because it has none of its own.

    Args:
        plain: images (N, 3, H, W) in [0, 1] -> logits (N, C, H, W).
        copies: number of copies that vote.
        width: width of a strip, as a share of the image's width.
    """

    has_confidence = False

    def __init__(self, plain: nn.Module, *, copies: int, width: float) -> None:
        super().__init__()
        self.plain = plain
        self.copies = copies
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Return the number of votes for each class plus half its mean probability, (N, C, H, W)."""
        votes = []
        for copy in range(self.copies):
            logits = self.plain(demasked(images, visible(images.shape[3], self.copies, self.width, copy)))
            soft = logits.float().softmax(1)
            hard = torch.zeros_like(soft).scatter_(1, logits.argmax(1, keepdim=True), 1)
            votes.append(hard + soft - soft.detach() + soft / (2 * self.copies))
        return torch.stack(votes).sum(0)


def visible(width: int, copies: int, share: float, copy: int) -> Tensor:
    """Return the columns that a copy shows, (W,) bool.

    Args:
        width: of the image, in pixels.
        copies: number of copies.
        share: width of a strip, as a share of the image's width; a strip has at least one column.
        copy: which copy, from 0 on.
    """
    strip = max(1, round(share * width))
    return (torch.arange(width) // strip) % copies == copy


def demasked(images: Tensor, columns: Tensor) -> Tensor:
    """Fill all columns but the visible ones: between the nearest visible columns linearly, outside of them constantly.

    Args:
        images: (N, 3, H, W).
        columns: visible columns, (W,) bool; if there is none, the whole image becomes grey.
    """
    seen = columns.nonzero()[:, 0]
    if not len(seen):
        return torch.full_like(images, 0.5)
    places = torch.arange(len(columns))
    after = torch.searchsorted(seen, places).clamp_max(len(seen) - 1)
    before = (torch.searchsorted(seen, places, right=True) - 1).clamp_min(0)
    left, right = seen[before], seen[after]
    weight = ((places - left) / (right - left).clamp_min(1)).clamp(0, 1).to(images)
    left, right = left.to(images.device), right.to(images.device)
    return images[..., left] * (1 - weight) + images[..., right] * weight


@defense("demasked-smoothing")
class DemaskedSmoothing(nn.Module):
    """Demasked smoothing against patches: a vote over partly masked images; the network is trained without a defense.

    Compare the adaptive with the oblivious score. A patch no wider than a strip cannot change a label on which enough
    copies agree; a wider one can.

    Args:
        segmenter: the network to train.
        copies: number of masked copies that vote, 5 or more: each shows every so many strips of columns.
        width: width of a strip, as a share of the image's width.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: there are fewer than 5 copies, which two touched ones could outvote, or the strips are too wide for
            every copy to show one.

    Source: Yatsura et al. 2023 (column masks, recovery), https://arxiv.org/abs/2209.14980.
    Departs from it in: masked columns are interpolated, where the paper inpaints them with a network (ZITS), so that
        clean scores are lower; no certificate is computed.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        copies: int = 5,
        width: float = 0.1,
        aux_weight: float = 0.4,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        if copies < 5:
            raise ValueError(f"demasked-smoothing: copies must be at least 5, got {copies}")
        if not 0 < width <= 1 / copies:
            raise ValueError(
                f"demasked-smoothing: width must be above 0 and at most 1/copies, {1 / copies:g}, got {width:g}"
            )
        self.segmenter = segmenter
        self.copies = copies
        self.width = width
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the clean batch; see `defenses.base.TrainingDefense`."""
        return segmentation_loss(
            self.segmenter, images, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def deploy(self) -> Demasked:
        """Return the network that votes over masked copies."""
        return Demasked(self.segmenter, copies=self.copies, width=self.width)
