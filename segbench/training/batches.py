"""What a step of training takes in: labelled images, and with them depth and clips where the defense learns from them.

Everything about an item comes from a generator of its own, so that loader workers and interruptions change nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from segbench.components import catalog
from segbench.config.matrix import Recipe
from segbench.datasets.base import Clips, Dataset, DepthMaps, OffersClips, OffersDepth
from segbench.defenses.base import Losses
from segbench.errors import DataError
from segbench.plan.traits import Need
from segbench.seeding import generator
from segbench.training.augment import augment, augment_clip

Batch = Mapping[str, Tensor]
"""images (N, 3, H, W) in [0, 1] and masks (N, H, W); where needed depth (N, H, W), frames (N, 3, 3, h, w) in [0, 1] and
intrinsics (N, 3, 3)."""


class Extras(NamedTuple):
    """What a defense learns from beside labelled images; None for what it does not need."""

    depth: DepthMaps | None
    clips: Clips | None


def extras(dataset: Dataset, split: str, needs: Collection[Need]) -> Extras:
    """Open what a defense learns from beside the labelled images of a split.

    Args:
        dataset: the dataset.
        split: name of the split.
        needs: what is needed; see `segbench.plan.traits`.

    Raises:
        DataError: the dataset does not offer it, or files are missing.
    """
    depth = clips = None
    if "depth" in needs:
        if not isinstance(dataset, OffersDepth):
            raise DataError(_not_offered(dataset, "depth", "the depth of images"))
        depth = dataset.depth(split)
    if "clips" in needs:
        if not isinstance(dataset, OffersClips):
            raise DataError(_not_offered(dataset, "clips", "video"))
        clips = dataset.clips(split)
    return Extras(depth, clips)


def _not_offered(dataset: Any, method: str, what: str) -> str:
    offering = [name for name, one in catalog.components("dataset").items() if hasattr(one.object, method)]
    return f"a defense learns from {what}, which {dataset.tag.name} does not have; {', '.join(offering)} do"


class TrainingImages(TorchDataset[dict[str, Tensor]]):
    """The items of batches, augmented.

    Args:
        dataset: where they come from.
        recipe: names the split and the augmentation.
        seed: of the augmentation and of which clip goes with an image.
        needs: what an item has beside image and mask; see `segbench.plan.traits`.

    Raises:
        DataError: there are fewer images than a batch has, or not what is needed beside them.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, seed: int, needs: Collection[Need] = ()) -> None:
        self.split = dataset.split(recipe.split)
        if len(self) < recipe.batch_size:
            raise DataError(f"{recipe.split} has {len(self)} images, fewer than one batch of {recipe.batch_size}")
        self.depth, self.clips = extras(dataset, recipe.split, needs)
        self.augmentation = recipe.augmentation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Return sample `index` as epoch `epoch` sees it, and a clip drawn for it; the key is (epoch, index)."""
        epoch, index = key
        sample, depth = self.split[index], None
        if self.depth is not None:
            depth = self.depth[index]
            if depth.shape != sample.mask.shape:
                sizes = (f"{height}x{width}" for height, width in (depth.shape, sample.mask.shape))
                raise DataError(f"{sample.name}: its depth is {' and its image '.join(sizes)}, but they have one size")
        source = generator(self.seed, "augment", epoch, index)
        item = dict(zip(("images", "masks", "depth"), augment(sample, self.augmentation, source, depth), strict=False))
        if self.clips is not None:
            source = generator(self.seed, "clip", epoch, index)
            drawn = int(torch.randint(len(self.clips), (), generator=source))
            item["frames"], item["intrinsics"] = augment_clip(self.clips[drawn], self.augmentation, source)
        return item


def batch_keys(length: int, batch_size: int, seed: int, start: int, total: int) -> list[list[tuple[int, int]]]:
    """Return the keys (epoch, index) of iterations start..total-1; incomplete batches are dropped.

    Args:
        length: images in the split.
        batch_size: images an iteration.
        seed: seed of the order; every epoch has its own.
        start: first iteration.
        total: one past the last.
    """
    epoch_length = length // batch_size
    found, epoch, order = [], -1, []
    for iteration in range(start, total):
        if iteration // epoch_length != epoch:
            epoch = iteration // epoch_length
            order = torch.randperm(length, generator=generator(seed, "order", epoch)).tolist()
        first = iteration % epoch_length * batch_size
        found.append([(epoch, index) for index in order[first : first + batch_size]])
    return found


def loss(defense: Any, batch: Batch, seed: int, iteration: int) -> Losses:
    """Return a defense's loss of one batch, that of the clips added where there are some.

    Args:
        defense: in train mode.
        batch: what it needs.
        seed: of the training.
        iteration: number of the batch; with the seed it fixes all randomness that is not the network's own.
    """
    depth = {"depth": batch["depth"]} if "depth" in batch else {}
    losses: Losses = defense.loss(batch["images"], batch["masks"], generator(seed, "attack", iteration), **depth)
    if "frames" not in batch:
        return losses
    video = defense.video_loss(batch["frames"], batch["intrinsics"], generator(seed, "video", iteration))
    return Losses(losses.total + video.total, {**losses.terms, **video.terms})
