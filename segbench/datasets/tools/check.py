"""Reading every sample once, before anything is trained: all bad files in one error, or a summary."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from segbench.datasets.base import Dataset, Sample, Split
from segbench.errors import DataError

THREADS = 8

Read = tuple[tuple[int, int], NDArray[np.int64]]
"""Size of a sample, and the number of its pixels by label."""


class SplitSummary(BaseModel):
    """What a split holds.

    Attributes:
        images: number of samples.
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
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    classes: tuple[str, ...]
    splits: dict[str, SplitSummary]


def check(dataset: Dataset, *, splits: Sequence[str] | None = None, cache: Path | None = None) -> Summary:
    """Read every sample, and return a summary of them.

    Args:
        dataset: what to read.
        splits: names of the splits to read; by default all that are there.
        cache: folder that remembers the summaries of good files by their fingerprint, so that they are read once.

    Raises:
        DataError: with all problems, one a line, each naming its file.
    """
    names = dataset.splits if splits is None else tuple(splits)
    fingerprint = dataset.fingerprint()
    stored = None if cache is None else cache / f"{fingerprint}-{'-'.join(names)}.json"
    if stored is not None and stored.is_file():
        return Summary.model_validate(json.loads(stored.read_text()))
    problems: list[str] = []
    summaries = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for name in names:
            try:
                split = dataset.split(name)
                reads = list(pool.map(_reader(split, len(dataset.classes)), range(len(split))))
            except DataError as error:
                problems += str(error).splitlines()
                continue
            problems += [read for read in reads if isinstance(read, str)]
            good = [read for read in reads if not isinstance(read, str)]
            if not reads:
                problems.append(f"split {name!r} has no samples")
            elif len(good) == len(reads):
                summaries[name] = _summarise(good, len(dataset.classes))
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    summary = Summary(fingerprint=fingerprint, classes=dataset.classes, splits=summaries)
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        # Another process may write the same summary at the same time: each moves a whole file into place.
        partial = stored.with_suffix(f".{os.getpid()}.part")
        partial.write_text(summary.model_dump_json())
        partial.replace(stored)
    return summary


def describe(summary: Summary) -> str:
    """Write a summary as text: images and sizes of each split, and the share of valid pixels of each class."""
    lines = [f"fingerprint {summary.fingerprint}"]
    for name, split in summary.splits.items():
        smallest, largest = ("x".join(map(str, size)) for size in split.sizes)
        sizes = smallest if smallest == largest else f"{smallest} to {largest}"
        lines.append(f"{name}: {split.images:,} images, {sizes}, {100 * split.void_share:.1f} % void")
    width = max(map(len, summary.classes))
    lines.append(" " * width + "".join(f"{name:>16}" for name in summary.splits) + "   (share of pixels, images)")
    for label, class_name in enumerate(summary.classes):
        cells = [
            f"{100 * split.class_shares[label]:.2f} % {split.class_images[label]:>7,}"
            for split in summary.splits.values()
        ]
        lines.append(f"{class_name:<{width}}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def contact_sheet(dataset: Dataset, path: Path, *, split: str = "val", count: int = 12, side: int = 240) -> None:
    """Write a PNG of images beside their coloured masks, with a row of class colours below.

    Args:
        dataset: what to show.
        path: file to write.
        split: name of the split.
        count: number of samples, taken at even distances.
        side: length of the longer side of a picture, in pixels.
    """
    samples = dataset.split(split)
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
    palette = np.full((256, 3), 255, np.uint8)
    palette[: len(dataset.palette)] = dataset.palette
    tiles = [_tile(samples[index], palette, side) for index in chosen]
    columns = min(3, len(tiles))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    width = max(sum(tile.width for tile in row) for row in rows)
    sheet = Image.new("RGB", (width, sum(max(tile.height for tile in row) for row in rows) + 16), "white")
    top = 0
    for row in rows:
        left = 0
        for tile in row:
            sheet.paste(tile, (left, top))
            left += tile.width
        top += max(tile.height for tile in row)
    stripe = Image.fromarray(palette[None, : len(dataset.palette)])
    sheet.paste(stripe.resize((width, 16), Image.Resampling.NEAREST), (0, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _reader(split: Split, num_classes: int) -> Callable[[int], Read | str]:
    def read(index: int) -> Read | str:
        try:
            sample = split[index]
        except DataError as error:
            return str(error)
        counts = torch.bincount(sample.mask.flatten().long(), minlength=256).numpy()
        if counts[num_classes:255].any():
            wrong = num_classes + int(np.flatnonzero(counts[num_classes:255])[0])
            return f"{sample.name}: mask holds label {wrong}, but there are {num_classes} classes and 255 for void"
        height, width = sample.mask.shape
        return (height, width), counts

    return read


def _summarise(reads: Sequence[Read], num_classes: int) -> SplitSummary:
    sizes = sorted((size for size, _ in reads), key=lambda size: (size[0] * size[1], size))
    counts = np.stack([count for _, count in reads])
    return SplitSummary(
        images=len(reads),
        sizes=(sizes[0], sizes[-1]),
        class_pixels=tuple(counts[:, :num_classes].sum(0).tolist()),
        void_pixels=int(counts[:, 255].sum()),
        class_images=tuple((counts[:, :num_classes] > 0).sum(0).tolist()),
    )


def _tile(sample: Sample, palette: NDArray[np.uint8], side: int) -> Image.Image:
    image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    mask = Image.fromarray(palette[sample.mask.numpy()])
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile = Image.new("RGB", (2 * size[0] + 8, size[1] + 8), "white")
    tile.paste(image.resize(size), (0, 0))
    tile.paste(mask.resize(size, Image.Resampling.NEAREST), (size[0] + 2, 0))
    return tile
