"""Images into packs: those whose crops have one size are attacked together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segbench.datasets.base import Split
from segbench.protocols.base import Crops, EvaluationProtocol


@dataclass(frozen=True)
class Pack:
    """Images whose crops make one batch.

    Attributes:
        places: places of the images among those that were packed.
        indices: index in the split of every image that was packed.
        crops: the crops of each image of the pack.
        images: the crops, (K, 3, h, w) in [0, 1], on the device.
        masks: their labels, (K, h, w), on the device.
    """

    places: tuple[int, ...]
    indices: Sequence[int]
    crops: tuple[Crops, ...]
    images: Tensor
    masks: Tensor

    @property
    def keys(self) -> list[tuple[int, int]]:
        """Index in the split and number of every crop: what its randomness is named by."""
        return [
            (self.indices[place], piece)
            for place, own in zip(self.places, self.crops, strict=True)
            for piece in range(len(own.images))
        ]

    def index(self, place: int) -> int:
        """Return the index in the split of the image at a place."""
        return self.indices[place]

    def by_image(self, values: Tensor) -> tuple[Tensor, ...]:
        """Split values of the crops, (K, ...), into those of each image."""
        return torch.split(values, [len(own.images) for own in self.crops])


def packed(crops: Sequence[Crops], indices: Sequence[int], batch: int, device: torch.device) -> Iterator[Pack]:
    """Yield packs of images on a device.

    Args:
        crops: the pieces of each image.
        indices: index of each image in its split.
        batch: largest number of pieces in a pack.
        device: where the batches go.
    """
    for places in packs(crops, batch):
        own = tuple(crops[place] for place in places)
        images = torch.cat([one.images for one in own]).to(device, memory_format=torch.channels_last)
        yield Pack(tuple(places), indices, own, images, torch.cat([one.masks for one in own]).to(device))


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
            for places in packs(crops, self.batch):
                images = torch.cat([crops[place].images for place in places]).to(self.device)
                yield images, torch.cat([crops[place].masks for place in places]).to(self.device)
