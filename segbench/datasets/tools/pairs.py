"""Images and masks in files: reading pairs, with an error that names the file for everything that can be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision.transforms.v2.functional as TF
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segbench.datasets.base import Sample, Size
from segbench.errors import DataError

MEMORY = 256 * 2**20
"""Bytes of decoded samples that a split keeps: a small data set is decoded once and not in every epoch."""

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are missing, truncated or no images."""


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
        labels: new label of every label that may occur in a mask; any other is an error.
        size: (height, width) to resize to: bilinear with antialiasing for images, nearest for masks.
    """

    def __init__(self, pairs: Sequence[Pair], labels: Mapping[int, int], size: Size | None = None) -> None:
        self.pairs = pairs
        self.labels = dict(labels)
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


def read_pair(pair: Pair, labels: Mapping[int, int], size: Size | None) -> Sample:
    """Read an image and its mask, map the labels and resize both; see `Pairs`.

    Raises:
        DataError: a file is missing or unreadable, the two differ in size, or a label is not known.
    """
    for path in (pair.image, pair.mask):
        if not path.is_file():
            raise DataError(f"{path}: no such file, but sample {pair.name!r} needs it")
    image, mask = read_image(pair.image), read_mask(pair.mask)
    if image.shape[1:] != mask.shape:
        raise DataError(
            f"{pair.mask}: mask is {mask.shape[0]}x{mask.shape[1]}, but its image {pair.image.name} is "
            f"{image.shape[1]}x{image.shape[2]}"
        )
    mapped = torch.from_numpy(_map(mask, labels, pair.mask))
    if size is not None and image.shape[1:] != size:
        image = TF.resize(image, list(size), antialias=True)
        mapped = TF.resize(mapped[None], list(size), interpolation=TF.InterpolationMode.NEAREST_EXACT)[0]
    return Sample(pair.name, image, mapped)


def read_image(path: Path) -> Tensor:
    """Read an image file as RGB, (3, H, W) uint8."""
    try:
        with Image.open(path) as file:
            array = np.array(file.convert("RGB"))
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a mask of label indices (grey or palette PNG, or SBD's .mat), (H, W) uint8."""
    if path.suffix == ".mat":
        return _read_sbd(path)
    try:
        with Image.open(path) as file:
            if file.mode not in ("L", "P", "1"):
                raise DataError(
                    f"{path}: has mode {file.mode}, but a mask holds one label index a pixel: save it as 8-bit grey or "
                    "palette PNG"
                )
            return np.array(file, dtype=np.uint8)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as a mask ({error})") from error


def _read_sbd(path: Path) -> NDArray[np.uint8]:
    # Not at the top: only one data set needs it.
    import scipy.io
    from scipy.io.matlab import MatReadError

    try:
        content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
        return np.asarray(content["GTcls"].Segmentation, dtype=np.uint8)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError, MatReadError) as error:
        raise DataError(f"{path}: cannot be read as a mask of SBD, GTcls.Segmentation ({error})") from error


def _map(mask: NDArray[np.uint8], labels: Mapping[int, int], path: Path) -> NDArray[np.uint8]:
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    unknown = [label for label in present if label not in labels]
    if unknown:
        raise DataError(f"{path}: mask holds label {unknown[0]}, but only {_ranges(labels)} are known")
    table = np.zeros(256, np.uint8)
    table[list(labels)] = list(labels.values())
    mapped: NDArray[np.uint8] = table[mask]
    return mapped


def _ranges(labels: Mapping[int, int]) -> str:
    """Write {0, 1, 2, 255} as "0-2, 255"."""
    runs: list[list[int]] = []
    for label in sorted(labels):
        if runs and label == runs[-1][-1] + 1:
            runs[-1].append(label)
        else:
            runs.append([label])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
