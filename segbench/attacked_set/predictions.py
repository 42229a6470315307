"""Label maps and confidences of an attacked set as files of a stranger: each is there, of its size and its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.attacked_set.manifest import AttackedSet, ImageFiles
from segbench.errors import SegbenchError
from segbench.files import sha256
from segbench.leaderboard.images import NotAnImage, decode, decode_confidence

LARGEST_FILE = 64 << 20
"""Largest length of a file of predictions, in bytes."""
CONFIDENCE = ".confidence.png"
"""End of the name of a file of confidences, in place of .png."""


class Predictions:
    """A folder with a folder of label PNGs for each condition of a set, and optionally confidences beside them.

    Args:
        folder: the folder.
        wanted: the set.

    Raises:
        SegbenchError: a file is missing or surplus, or is no plain file.
    """

    def __init__(self, folder: Path, wanted: AttackedSet) -> None:
        self.folder, self.wanted = folder, wanted
        self.hashes: dict[str, str] = {}
        if not folder.is_dir():
            raise SegbenchError(f"{folder}: there is no such folder; name the one that holds the predictions")
        names = {file for image in wanted.images for file in image.files}
        self.confident: dict[str, bool] = {}
        self._only(folder, set(wanted.conditions), "condition")
        for condition in wanted.conditions:
            found = self._only(folder / condition, names | {_beside(name) for name in names}, "image of the set")
            missing = sorted(names - found)
            if missing:
                raise SegbenchError(
                    f"{folder / condition}: {missing[0]} is missing{_more(missing)}; give a label map for every image"
                )
            beside = {name for name in names if _beside(name) in found}
            if beside and beside != names:
                absent = sorted(_beside(name) for name in names - beside)
                raise SegbenchError(
                    f"{folder / condition}: {absent[0]} is missing{_more(absent)}; give confidences for every image of "
                    "a condition, or for none"
                )
            self.confident[condition] = bool(beside)

    def labels(self, condition: str, image: ImageFiles) -> NDArray[np.uint8]:
        """Return the label maps of an image's pieces, (K, H, W).

        Raises:
            SegbenchError: a file is not an 8-bit grey PNG of the piece's size, or holds a label that is no class.
        """
        found: list[NDArray[np.uint8]] = []
        classes = len(self.wanted.classes)
        for file in image.files:
            path = self.folder / condition / file
            pixels = self._decoded(path, image, lambda content: decode(content, labels=True))
            if int(pixels.max()) >= classes:
                raise SegbenchError(
                    f"{path}: holds the label {int(pixels.max())}; labels are 0 to {classes - 1}, one for each pixel"
                )
            found.append(pixels)
        return np.stack(found)

    def confidences(self, condition: str, image: ImageFiles) -> NDArray[np.float64]:
        """Return the confidences of an image's pieces in [0, 1], (K, H, W).

        Raises:
            SegbenchError: a file is not a 16-bit grey PNG of the piece's size.
        """
        paths = [self.folder / condition / _beside(file) for file in image.files]
        return np.stack([self._decoded(path, image, decode_confidence) for path in paths]) / 65535

    def _only(self, folder: Path, known: set[str], what: str) -> set[str]:
        """Return the names in a folder, which are to be known ones."""
        if not folder.is_dir() or folder.is_symlink():
            raise SegbenchError(f"{folder}: there is no such folder; give one for every condition of the set")
        found = {path.name for path in folder.iterdir()}
        surplus = sorted(found - known)
        if surplus:
            raise SegbenchError(f"{folder}: {surplus[0]!r} is no {what}{_more(surplus)}; leave only what is asked for")
        return found

    def _decoded(self, path: Path, image: ImageFiles, decoded: Callable[[bytes], NDArray[Any]]) -> NDArray[Any]:
        if path.is_symlink() or not path.is_file():
            raise SegbenchError(f"{path}: not a plain file")
        if path.stat().st_size > LARGEST_FILE:
            raise SegbenchError(f"{path}: {path.stat().st_size:,} bytes, more than a label map has")
        content = path.read_bytes()
        try:
            pixels = decoded(content)
        except NotAnImage as error:
            raise SegbenchError(f"{path}: {error}") from error
        if pixels.shape != (image.height, image.width):
            raise SegbenchError(
                f"{path}: {pixels.shape[0]} x {pixels.shape[1]} pixels, its image has {image.height} x {image.width}; "
                "resize predictions to the image"
            )
        self.hashes[path.relative_to(self.folder).as_posix()] = sha256(content)
        return pixels


def _beside(file: str) -> str:
    return file.removesuffix(".png") + CONFIDENCE


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
