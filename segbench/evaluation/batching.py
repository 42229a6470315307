"""Images as they are read, and as packs: those whose crops have one size are attacked together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segbench.datasets.base import Sample, Split
from segbench.errors import CellError
from segbench.protocols.base import Crops, EvaluationProtocol


@dataclass(frozen=True)
class Read:
    """An image as it was read and cut.

    Attributes:
        index: in its split.
        sample: the image itself.
        crops: its pieces.
    """

    index: int
    sample: Sample
    crops: Crops


@dataclass(frozen=True)
class Reader:
    """Reads images and cuts them, in threads too.

    Attributes:
        split: where they are.
        protocol: cuts them.
        num_classes: number of classes.
        ignore_index: label of void pixels.
        pinned: whether memory is used from which a GPU copies while it computes.
    """

    split: Split
    protocol: EvaluationProtocol
    num_classes: int
    ignore_index: int
    pinned: bool = False

    def __call__(self, index: int) -> Read:
        """Read an image.

        Raises:
            CellError: its mask holds a label that is neither a class nor void.
        """
        sample = self.split[index]
        crops = self.protocol.crops(sample.image, sample.mask)
        highest = int(crops.truth.masked_fill(crops.truth == self.ignore_index, 0).max())
        if highest >= self.num_classes:
            raise CellError(f"{sample.name}: a mask holds label {highest}, but there are {self.num_classes} classes")
        if self.pinned:
            tensors = {name: getattr(crops, name).pin_memory() for name in ("images", "masks", "truth")}
            crops = replace(crops, **tensors)
        return Read(index, sample, crops)


@dataclass(frozen=True)
class Pack:
    """Images whose crops make one batch.

    Attributes:
        places: places of the images among those that were packed.
        reads: the images.
        images: their crops, (K, 3, h, w) in [0, 1], on the device.
        masks: the labels of the crops, (K, h, w), on the device.
    """

    places: tuple[int, ...]
    reads: tuple[Read, ...]
    images: Tensor
    masks: Tensor

    @property
    def keys(self) -> list[tuple[int, int]]:
        """Index in the split and number of every crop: what its randomness is named by."""
        return [(read.index, piece) for read in self.reads for piece in range(len(read.crops.images))]

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return [read.sample.name for read in self.reads]

    def some(self, places: slice) -> tuple[Pack, slice]:
        """Return the pack of some of the images, and where their crops are among those of all."""
        first, end, _ = places.indices(len(self.reads))
        before, own = (
            sum(len(read.crops.images) for read in reads) for reads in (self.reads[:first], self.reads[first:end])
        )
        pieces = slice(before, before + own)
        return Pack(self.places[first:end], self.reads[first:end], self.images[pieces], self.masks[pieces]), pieces

    def by_image(self, values: Tensor) -> tuple[Tensor, ...]:
        """Split values of the crops, (K, ...), into those of each image."""
        return torch.split(values, [len(read.crops.images) for read in self.reads])


def packed(reads: Sequence[Read], batch: int, device: torch.device) -> Iterator[Pack]:
    """Yield packs of images on a device.

    Args:
        reads: the images.
        batch: largest number of pieces in a pack.
        device: where the batches go.
    """
    for places in packs([read.crops for read in reads], batch):
        own = tuple(reads[place] for place in places)
        images = torch.cat([read.crops.images.to(device, non_blocking=True) for read in own])
        masks = torch.cat([read.crops.masks.to(device, non_blocking=True) for read in own])
        yield Pack(tuple(places), own, images.contiguous(memory_format=torch.channels_last), masks)


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
