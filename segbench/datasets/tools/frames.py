"""Video and depth in files: clips of neighbouring frames, and disparities of a stereo camera as depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segbench.datasets.base import Clip, Size
from segbench.datasets.tools.images import read_image, read_sixteen_bits
from segbench.datasets.tools.resizing import resized_images, resized_map
from segbench.errors import DataError


class Camera(NamedTuple):
    """A stereo camera.

    Attributes:
        intrinsics: of the left camera, in pixels of the files, (3, 3) float32.
        baseline: distance of the cameras in metres, times the focal length in pixels: depth is this over disparity.
    """

    intrinsics: Tensor
    baseline: float


ReadCamera = Callable[[Path], Camera]


class ClipFiles(NamedTuple):
    """The files of one clip.

    Attributes:
        frames: before, the frame itself, after.
        camera: its camera.
    """

    frames: tuple[Path, Path, Path]
    camera: Path


class DepthFiles(NamedTuple):
    """The files of one depth map.

    Attributes:
        disparity: 16-bit PNG.
        camera: its camera.
    """

    disparity: Path
    camera: Path


class FileClips:
    """Clips in files; see `segbench.datasets.base.Clips`.

    Args:
        files: of each clip.
        read_camera: reads a camera file.
        size: (height, width) to resize frames to; None keeps the files'.
    """

    def __init__(self, files: Sequence[ClipFiles], read_camera: ReadCamera, size: Size | None) -> None:
        self.files = files
        self.read_camera = read_camera
        self.size = size

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for frames, camera in self.files for path in (*frames, camera)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Clip:
        paths, camera = self.files[index]
        images = [read_image(path) for path in paths]
        for path, image in zip(paths, images, strict=True):
            if image.shape != images[1].shape:
                raise DataError(f"{path}: has another size than {paths[1].name}, but frames of a clip have one size")
        frames, intrinsics = torch.stack(images), self.read_camera(camera).intrinsics
        if self.size is not None and frames.shape[2:] != self.size:
            intrinsics = resized(intrinsics, frames.shape[2:], self.size)
            frames = resized_images(frames, self.size)
        return Clip(frames.float() / 255, intrinsics)


class FileDepth:
    """Disparities in files, read as depth; see `segbench.datasets.base.DepthMaps`.

    Args:
        files: of each depth map.
        read_camera: reads a camera file.
        zero: value of no disparity; disparity is (value - zero) / 256, and a value of 0 says that it is not known.
        size: (height, width) to resize to the nearest pixel; None keeps the files'.
    """

    def __init__(self, files: Sequence[DepthFiles], read_camera: ReadCamera, zero: int, size: Size | None) -> None:
        self.files = files
        self.read_camera = read_camera
        self.zero = zero
        self.size = size

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for pair in self.files for path in pair]

    def __getitem__(self, index: int) -> Tensor:
        path, camera = self.files[index]
        values = read_sixteen_bits(path, "a disparity map")
        disparity = torch.from_numpy((values.astype(np.float32) - self.zero) / 256)
        # What is infinitely far has no depth to learn: it counts as not known.
        depth = torch.where(disparity > 0, self.read_camera(camera).baseline / disparity, 0.0)
        if self.size is not None:
            depth = resized_map(depth, self.size)
        return depth


def checked_camera(path: Path, intrinsics: Tensor, baseline: float) -> Camera:
    """Return a camera whose numbers can be those of one.

    Args:
        path: what errors name.
        intrinsics: see `Camera`.
        baseline: see `Camera`.

    Raises:
        DataError: a number is not finite, or a focal length or the baseline is not positive.
    """
    focal = min(float(intrinsics[0, 0]), float(intrinsics[1, 1]))
    if not (intrinsics.isfinite().all() and math.isfinite(baseline) and focal > 0 and baseline > 0):
        raise DataError(f"{path}: a camera has finite numbers, and focal lengths and a baseline above 0; this has not")
    return Camera(intrinsics, baseline)


def resized(intrinsics: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Return the camera matrix of frames that were resized.

    Args:
        intrinsics: (3, 3), (0, 0) the centre of the first pixel.
        before: height and width before.
        after: height and width after.
    """
    down, across = (new / old for new, old in zip(after, before, strict=True))
    change = torch.tensor([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    return change @ intrinsics


def require(paths: Iterable[Path], get: str) -> None:
    """See that files are there.

    Args:
        paths: the files.
        get: where to get them.

    Raises:
        DataError: naming the first that is missing.
    """
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file; {get}")
