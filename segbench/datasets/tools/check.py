"""Reading every sample once, before anything is trained: all bad files in one error, or a summary."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from segbench.datasets.base import Dataset, OffersWarnings, Split
from segbench.datasets.tools.wording import count, fold
from segbench.errors import DataError, StoreError
from segbench.files import read_sealed, write_sealed

THREADS = 8
TOLD = 40
"""Classes up to which a description lists those without a pixel too."""

TRAINED_ON = "train"
"""What the names of splits begin with whose images may be in one another, as those of `train` are in `train_aug`."""


class Counted(NamedTuple):
    """What is kept of a sample.

    Attributes:
        name: of the sample.
        size: its height and width.
        counts: number of its pixels by label.
        image: hash of its image.
    """

    name: str
    size: tuple[int, int]
    counts: NDArray[np.int64]
    image: bytes


class SplitSummary(BaseModel):
    """What a split holds.

    Attributes:
        images: number of samples that were read.
        left: number of samples that were not read, because they are not used.
        sizes: (height, width) of the samples with the fewest and the most pixels.
        class_pixels: number of pixels of each class.
        void_pixels: number of void pixels.
        class_images: number of images that each class is in.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    class_pixels: tuple[int, ...]
    void_pixels: int
    class_images: tuple[int, ...]
    left: int = 0

    @property
    def class_shares(self) -> tuple[float, ...]:
        """Share of the valid pixels that each class has; they sum to 1."""
        total = max(1, sum(self.class_pixels))
        return tuple(count / total for count in self.class_pixels)

    @property
    def void_share(self) -> float:
        """Share of all pixels that are void."""
        return self.void_pixels / (sum(self.class_pixels) + self.void_pixels)


class Summary(BaseModel):
    """What a dataset holds.

    Attributes:
        fingerprint: of the files that were read.
        classes: names of the classes.
        splits: a summary by split.
        shared: which splits hold the same image, as sentences.
        warnings: what is no mistake but may surprise, as sentences.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    classes: tuple[str, ...]
    splits: dict[str, SplitSummary]
    shared: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def check(
    dataset: Dataset,
    *,
    splits: Sequence[str] | None = None,
    cache: Path | None = None,
    verify: bool = False,
    first: Mapping[str, int] = MappingProxyType({}),
) -> Summary:
    """Read every sample, or every one that is used, and return a summary of them.

    Args:
        dataset: what to read.
        splits: names of the splits to read; by default all that are there.
        cache: folder that remembers the summaries of good files by their fingerprint, so that they are read once.
        verify: read everything anew, whatever is remembered.
        first: number of the first samples to read, of the splits of which only these are used.

    Raises:
        DataError: with all problems, one a line, each naming its file; of many like ones the first.
    """
    names = dataset.splits if splits is None else tuple(splits)
    fingerprint = dataset.fingerprint(verify=True) if verify else dataset.fingerprint()
    asked: object = [names, dict(sorted(first.items()))] if first else names
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]
    stored = None if cache is None else cache / f"{fingerprint}-{key}.json"
    summary = None if stored is None or verify else _recalled(stored, fingerprint, dataset.classes, names)
    if summary is None:
        read = _read(dataset, names, first)
        summaries = {name: _summarise(reads, len(dataset.classes), left) for name, (reads, left) in read.items()}
        shared = tuple(_shared({name: reads for name, (reads, _) in read.items()}))
        summary = Summary(fingerprint=fingerprint, classes=dataset.classes, splits=summaries, shared=shared)
        if stored is not None:
            write_sealed(stored, summary.model_dump(mode="json"), f"cache/{stored.name}")
    # Files that are left out do not change the fingerprint.
    return summary.model_copy(update={"warnings": _warnings(dataset, summary)})


def describe(summary: Summary) -> str:
    """Write a summary as text: images and sizes of each split, the share of valid pixels of each class, warnings.

    Of more than `TOLD` classes, those without a pixel are counted and not listed.
    """
    lines = [f"fingerprint {summary.fingerprint}"]
    for name, split in summary.splits.items():
        smallest, largest = ("x".join(map(str, size)) for size in split.sizes)
        sizes = smallest if smallest == largest else f"{smallest} to {largest}"
        lines.append(f"{name}: {split.images:,} images, {sizes}, {100 * split.void_share:.1f} % void")
    width = max(map(len, summary.classes)) + 1
    lines.append(" " * width + "".join(f"{name:>16}" for name in summary.splits) + "   (share of pixels, images)")
    splits, absent = summary.splits.values(), 0
    for label, class_name in enumerate(summary.classes):
        if len(summary.classes) > TOLD and not any(split.class_images[label] for split in splits):
            absent += 1
            continue
        cells = [f"{100 * split.class_shares[label]:.2f} % {split.class_images[label]:>7,}" for split in splits]
        lines.append(f"{class_name:<{width}}" + "".join(f"{cell:>16}" for cell in cells))
    if absent:
        lines.append(f"{absent} more classes without a pixel")
    lines += [f"warning: {text}" for text in summary.warnings]
    return "\n".join(lines)


def _read(dataset: Dataset, names: Sequence[str], first: Mapping[str, int]) -> dict[str, tuple[list[Counted], int]]:
    """Return what is kept of the samples of each split that are used, and the number of those that are not."""
    problems: list[str] = []
    read = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for name in names:
            try:
                split = dataset.split(name)
                used = min(len(split), first.get(name, len(split)))
                reads = list(pool.map(_reader(split, len(dataset.classes)), range(used)))
            except DataError as error:
                problems += str(error).splitlines()
                continue
            problems += [read for read in reads if isinstance(read, str)]
            good = [read for read in reads if not isinstance(read, str)]
            if not reads:
                problems.append(f"split {name!r} has no samples")
            elif len(good) == len(reads):
                read[name] = good, len(split) - used
    if problems:
        raise DataError("\n".join(fold(problems)))
    return read


def _shared(read: Mapping[str, Sequence[Counted]]) -> list[str]:
    """Say which splits hold the same image, pixel for pixel; those that are trained on may."""
    said = []
    for one, other in itertools.combinations(read, 2):
        if one.startswith(TRAINED_ON) and other.startswith(TRAINED_ON):
            continue
        there = {sample.image: sample.name for sample in read[one]}
        same = [f"{there[each.image]} is {each.name}" for each in read[other] if each.image in there]
        if same:
            said.append(f"{one} and {other} hold the same images, pixel for pixel: {count(same, 'image')}")
    return said


def _recalled(file: Path, fingerprint: str, classes: Sequence[str], names: Sequence[str]) -> Summary | None:
    """Return the summary in a file, or None where there is none of just this, whole."""
    try:
        summary = Summary.model_validate(read_sealed(file, f"cache/{file.name}"))
    except (StoreError, ValueError):
        return None
    wanted = (fingerprint, tuple(classes), list(names))
    return summary if (summary.fingerprint, summary.classes, list(summary.splits)) == wanted else None


def _warnings(dataset: Dataset, summary: Summary) -> tuple[str, ...]:
    said = [*(dataset.warnings() if isinstance(dataset, OffersWarnings) else []), *summary.shared]
    official = getattr(dataset, "lengths", {})
    for name, split in summary.splits.items():
        there = split.images + split.left
        if there != official.get(name, there):
            said.append(f"{name}: the official split has {official[name]:,} images, this one {there:,}")
        absent = [each for each, pixels in zip(summary.classes, split.class_pixels, strict=True) if not pixels]
        if absent and split.void_pixels and not split.left:
            said.append(
                f"{name}: {count(absent, 'class')} without one pixel, while {100 * split.void_share:.1f} % of the "
                "pixels are void, which no score counts; is a label taken for void that is a class?"
            )
    return tuple(said)


def _reader(split: Split, num_classes: int) -> Callable[[int], Counted | str]:
    def read(index: int) -> Counted | str:
        try:
            sample = split[index]
        except DataError as error:
            return str(error)
        counts = torch.bincount(sample.mask.flatten().long(), minlength=256).numpy()
        if counts[num_classes:255].any():
            wrong = num_classes + int(np.flatnonzero(counts[num_classes:255])[0])
            return f"{sample.name}: mask holds label {wrong}, but there are {num_classes} classes and 255 for void"
        height, width = sample.mask.shape
        image = hashlib.sha256(f"{height} {width} ".encode() + sample.image.contiguous().numpy().tobytes())
        return Counted(sample.name, (height, width), counts, image.digest())

    return read


def _summarise(reads: Sequence[Counted], num_classes: int, left: int) -> SplitSummary:
    sizes = sorted((read.size for read in reads), key=lambda size: (size[0] * size[1], size))
    counts = np.stack([read.counts for read in reads])
    return SplitSummary(
        images=len(reads),
        sizes=(sizes[0], sizes[-1]),
        class_pixels=tuple(counts[:, :num_classes].sum(0).tolist()),
        void_pixels=int(counts[:, 255].sum()),
        class_images=tuple((counts[:, :num_classes] > 0).sum(0).tolist()),
        left=left,
    )
