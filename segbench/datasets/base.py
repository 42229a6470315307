"""The contract of a dataset, and the check that finds bad files before anything is trained."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torchvision.transforms.v2.functional as TF
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model_zoo.base import tagger
from segbench.errors import DataError

CONTEXT = ("root",)
"""Parameters that are not part of a dataset's identity: where its files lie. All others are options."""

Size = tuple[int, int]


class Sample(NamedTuple):
    """One image with its mask.

    Attributes:
        name: unique in its split.
        image: (3, H, W) uint8.
        mask: (H, W) uint8; labels 0..C-1 and the ignore index.
    """

    name: str
    image: Tensor
    mask: Tensor


class Split(Protocol):
    """A sequence of samples; reading one is thread-safe and has no randomness."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; a file that cannot be used is a `DataError` naming it."""
        ...


class Dataset(Protocol):
    """What a class tagged with `@dataset` offers.

    Attributes:
        classes: names of the labels 0..C-1.
        palette: a colour per class, (C, 3) in 0..255.
        ignore_index: label of void pixels.
        splits: names of the splits; "train" is trained on, "val" is the default for evaluation.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int
    splits: tuple[str, ...]

    def split(self, name: str) -> Split:
        """Return a split; an unknown name or missing files are a `DataError`."""
        ...

    def fingerprint(self) -> str:
        """Return a short hash of everything that the samples come from."""
        ...


D = TypeVar("D", bound=Callable[..., Any])


def dataset(name: str, *, version: int = 1) -> Callable[[D], D]:
    """Tag a class as a dataset; the catalog finds it by this.

    Args:
        name: what matrices and tables call it.
        version: raise it when the same files and options give other samples.
    """
    return tagger("dataset", name, version)


def read_image(path: Path) -> Tensor:
    """Read an image file as RGB, (3, H, W) uint8."""
    try:
        with Image.open(path) as file:
            array = np.array(file.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from error
    return torch.from_numpy(array).permute(2, 0, 1)


def read_mask(path: Path) -> Tensor:
    """Read a mask of label indices (grey or palette PNG), (H, W) uint8."""
    try:
        with Image.open(path) as file:
            if file.mode not in ("L", "P", "1"):
                raise DataError(
                    f"{path}: masks are single-channel label indices (grey or palette PNG), "
                    f"this file has mode {file.mode}"
                )
            array = np.array(file, dtype=np.uint8)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as a mask ({error})") from error
    return torch.from_numpy(array)


def read_pair(
    image_path: Path,
    mask_path: Path,
    *,
    name: str,
    label_map: NDArray[np.uint8] | None = None,
    size: Size | None = None,
) -> Sample:
    """Read an image and its mask, map the labels and resize both.

    Args:
        image_path: image file.
        mask_path: mask file of the same height and width.
        name: name of the sample.
        label_map: (256,) new label for every label in the file.
        size: (height, width) to resize to: bilinear with antialiasing for images, nearest for masks.

    Raises:
        DataError: a file is missing or unreadable, or the two differ in size; names the file.
    """
    for path in (image_path, mask_path):
        if not path.is_file():
            raise DataError(f"{path}: no such file (the other half of its pair is listed)")
    image, mask = read_image(image_path), read_mask(mask_path)
    if image.shape[1:] != mask.shape:
        raise DataError(
            f"{mask_path}: mask is {mask.shape[0]}x{mask.shape[1]}, its image {image_path.name} is "
            f"{image.shape[1]}x{image.shape[2]}"
        )
    if label_map is not None:
        mask = torch.from_numpy(label_map)[mask.long()]
    if size is not None and image.shape[1:] != size:
        image = TF.resize(image, list(size), antialias=True)
        mask = TF.resize(mask[None], list(size), interpolation=TF.InterpolationMode.NEAREST_EXACT)[0]
    return Sample(name, image, mask)


def check_labels(sample: Sample, num_classes: int, ignore_index: int) -> None:
    """Raise a `DataError` if a mask holds labels other than 0..C-1 and the ignore index."""
    labels = torch.unique(sample.mask).tolist()
    wrong = [label for label in labels if label >= num_classes and label != ignore_index]
    if wrong:
        raise DataError(
            f"{sample.name}: mask holds label {wrong[0]}; allowed are 0 to {num_classes - 1} and {ignore_index} (void)"
        )


def fingerprint_files(files: Iterable[Path], *parts: str) -> str:
    """Hash the names, sizes and modification-independent contents of files, in order.

    Args:
        files: the files; a missing one counts as empty.
        *parts: further text that the samples depend on.
    """
    digest = hashlib.sha256("\n".join(parts).encode())
    for path in files:
        size = os.path.getsize(path) if path.is_file() else -1
        digest.update(f"{path.parent.name}/{path.name}:{size}\n".encode())
        if size >= 0:
            digest.update(hashlib.file_digest(path.open("rb"), "sha256").digest())
    return digest.hexdigest()[:16]
