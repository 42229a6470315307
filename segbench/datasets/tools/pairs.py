"""Images and masks in files: reading pairs, with an error that names the file for everything that can be wrong."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from segbench.datasets.base import Sample, Size
from segbench.datasets.tools.images import SUFFIXES, Picture, Source, read_labels, read_picture
from segbench.datasets.tools.label_map import LabelMap
from segbench.datasets.tools.resizing import resized_images, resized_map
from segbench.errors import DataError

MEMORY = 256 * 2**20
"""Bytes of decoded samples that a split keeps: a small data set is decoded once and not in every epoch."""


class Pair(NamedTuple):
    """The files of one sample.

    Attributes:
        name: name of the sample, unique in its split.
        image: image file.
        mask: mask file.
    """

    name: str
    image: Path
    mask: Path


class Pairs:
    """A split of image and mask files; see `Split`.

    Args:
        pairs: the files.
        labels: what the values in the masks mean.
        size: (height, width) to resize to: bilinear with antialiasing for images, nearest for masks.

    Raises:
        DataError: two samples have one name, or one image.
    """

    def __init__(self, pairs: Sequence[Pair], labels: LabelMap, size: Size | None = None) -> None:
        _distinct(pairs)
        self.pairs = pairs
        self.labels = labels
        self.size = size
        self._kept: dict[int, Sample] = {}
        self._room = MEMORY

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        sample = self._kept.get(index)
        if sample is None:
            sample = read_pair(self.pairs[index], self.labels, self.size)
            self._room -= sample.image.numel() + sample.mask.numel()
            if self._room > 0:
                self._kept[index] = sample
        return sample


def checked_size(size: Size | None, name: str) -> Size | None:
    """Return the size that a dataset resizes to.

    Raises:
        DataError: a side is not at least 1.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise DataError(f"{name}: 'size' is [height, width] in pixels, each at least 1, got {list(size)}")
    return size if size is None else (size[0], size[1])


def read_pair(pair: Pair, labels: LabelMap, size: Size | None) -> Sample:
    """Read an image and its mask, map the labels and resize both; see `Pairs`.

    Raises:
        DataError: a file is missing or unreadable, the two differ in size, or a label is not known.
    """
    for path in (pair.image, pair.mask):
        # Unlike path.is_file, this takes a name that no file can have for no file.
        if not os.path.isfile(path):
            raise DataError(f"{path}: no such file, but sample {pair.name!r} needs it{_look_alikes(path)}")
    return read_sample(pair.name, pair.image, pair.mask, labels, size)


def read_sample(name: str, source: Source, mask: Source, labels: LabelMap, size: Size | None = None) -> Sample:
    """Read an image and its mask from files or from what files hold; see `read_pair`."""
    picture, values = read_picture(source), read_labels(mask, colours=labels.colours)
    image = picture.pixels
    if image.shape[1:] != values.shape:
        turned = f", turned as its EXIF says (orientation {picture.orientation})" if picture.orientation != 1 else ""
        raise DataError(
            f"{mask}: mask is {values.shape[0]}x{values.shape[1]}, but its image {source.name} is "
            f"{image.shape[1]}x{image.shape[2]}{turned}"
        )
    _refuse_doubtful_turn(source, picture)
    mapped = torch.from_numpy(labels.apply(values, mask))
    if size is not None and image.shape[1:] != size:
        image, mapped = resized_images(image, size), resized_map(mapped, size)
    return Sample(name, image, mapped)


def _refuse_doubtful_turn(path: Source, picture: Picture) -> None:
    """Refuse a turned image that has the same size unturned: its mask may have been drawn before or after."""
    _, height, width = picture.pixels.shape
    if picture.orientation != 1 and (picture.orientation < 5 or height == width):
        raise DataError(
            f"{path}: its EXIF says to turn it (orientation {picture.orientation}), and its size does not tell whether "
            "its mask was drawn on the turned image; save it turned as the mask is, without that tag"
        )


def _distinct(pairs: Sequence[Pair]) -> None:
    names: dict[str, Path] = {}
    images: dict[str, Path] = {}
    for name, image, _ in pairs:
        for seen, key in ((names, name), (images, os.path.realpath(image))):
            if key in seen:
                what = "is sample" if seen is names else "is the same file as"
                told = f"{name!r}, and so is {seen[key]}" if seen is names else f"{seen[key]}"
                raise DataError(f"{image}: {what} {told}; keep one")
            seen[key] = image


def _look_alikes(path: Path) -> str:
    """Name files beside a missing one whose names differ from it in case, endings or ways to write letters only."""
    if not path.parent.is_dir():
        return ""
    alike = _by_bare_name(path.parent, path.parent.stat().st_mtime_ns).get(_bare(path.name), ())
    return f"; there is {' and '.join(alike[:2])}" if alike else ""


@lru_cache(16)
def _by_bare_name(folder: Path, changed: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        found.setdefault(_bare(name), []).append(name)
    return found


def _bare(name: str) -> str:
    bare = unicodedata.normalize("NFKC", name).casefold()
    while bare.endswith((*SUFFIXES, ".npy", ".gif", ".jp2", ".mat")):
        bare = bare.rpartition(".")[0]
    return bare
