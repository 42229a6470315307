"""Images into batches: those whose crops have one size go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segbench.datasets.base import Split
from segbench.protocols.base import Crops, EvaluationProtocol


def packs(crops: Sequence[Crops], batch: int) -> Iterator[list[int]]:
    """Group images into batches: crops of one size, at most `batch` of them unless one image has more.

    Args:
        crops: the pieces of each image.
        batch: largest number of pieces in a pack.
    """
    open_packs: dict[tuple[int, ...], list[int]] = {}
    for position, own in enumerate(crops):
        size = tuple(own.images.shape[2:])
        pack = open_packs.setdefault(size, [])
        if pack and sum(len(crops[m].images) for m in pack) + len(own.images) > batch:
            yield pack
            pack = open_packs[size] = []
        pack.append(position)
    yield from open_packs.values()


@dataclass(frozen=True)
class TrainingBatches:
    """Batches of a training split as a protocol cuts it, anew for every pass through them."""

    split: Split
    protocol: EvaluationProtocol
    batch: int
    device: torch.device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self.split), self.batch):
            indices = range(first, min(first + self.batch, len(self.split)))
            crops = [self.protocol.crops(*self.split[index][1:]) for index in indices]
            for members in packs(crops, self.batch):
                images = torch.cat([crops[m].images for m in members]).to(self.device)
                yield images, torch.cat([crops[m].masks for m in members]).to(self.device)
