"""Training augmentation: a function of a sample and a generator, so that what loads the sample changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.config.matrix import Augmentation
from segbench.datasets.base import VOID, Clip, Sample
from segbench.datasets.tools.resizing import resized_images, resized_map
from segbench.model_zoo.base import IMAGENET_MEAN
from segbench.protocols.geometry import pad_image

BLUR_SIGMA = 1.1
"""What OpenCV takes for a 5x5 kernel."""


def augment(
    sample: Sample, augmentation: Augmentation, generator: torch.Generator, depth: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Augment a sample: image (3, h, w) float32 in [0, 1], mask (h, w) int64, and its depth (h, w) where it is given.

    Args:
        sample: what to augment; it is not changed.
        augmentation: what to do.
        generator: all randomness; the same number of values is drawn whatever is done.
        depth: (H, W) on the image's grid; goes with the mask, and is 0 where that is void by a change.

    Source: order, probabilities and padding of Xu et al. 2021, https://arxiv.org/abs/2003.06555
    Departs from it in: masks are resized to the nearest pixel centre, which keeps them on the image's grid.
    """
    draws = torch.rand(7, generator=generator).tolist()
    image = sample.image.float() / 255
    maps = [sample.mask[None]] if depth is None else [sample.mask[None], depth[None]]
    fills = (VOID, 0)
    if augmentation.scale is not None:
        low, high = augmentation.scale
        factor = low + (high - low) * draws[0]
        height, width = (max(1, round(length * factor)) for length in image.shape[1:])
        image = resized_images(image, (height, width), antialias=False)
        maps = [resized_map(one[0], (height, width))[None] for one in maps]
    if augmentation.rotate and draws[1] < augmentation.rotate_probability:
        import torchvision.transforms.v2.functional as TF  # takes two seconds, and most trainings need nothing of it

        angle = augmentation.rotate * (2 * draws[2] - 1)
        image = TF.rotate(image, angle, interpolation=TF.InterpolationMode.BILINEAR, fill=list(IMAGENET_MEAN))
        nearest = TF.InterpolationMode.NEAREST
        maps = [TF.rotate(one, angle, interpolation=nearest, fill=fill) for one, fill in zip(maps, fills, strict=False)]
    if draws[3] < augmentation.blur:
        import torchvision.transforms.v2.functional as TF

        image = TF.gaussian_blur(image, [5, 5], [BLUR_SIGMA, BLUR_SIGMA])
    if draws[4] < augmentation.flip:
        image, maps = image.flip(-1), [one.flip(-1) for one in maps]
    if augmentation.crop is not None:
        window = _window(image.shape[1:], augmentation.crop, draws[5:])
        image = _cut_image(image, window)
        maps = [_cut_map(one, window, fill) for one, fill in zip(maps, fills, strict=False)]
    image, mask = image.clamp(0, 1).contiguous(), maps[0][0].long()
    return (image, mask) if depth is None else (image, mask, maps[1][0].contiguous())


def augment_clip(clip: Clip, augmentation: Augmentation, generator: torch.Generator) -> Clip:
    """Mirror and crop a clip, and its camera with it; no other change of images leaves a clip what a camera saw.

    Padding is the same in all frames, so that it looks as if it had not moved.

    Args:
        clip: what to augment; it is not changed.
        augmentation: what is done to images.
        generator: all randomness; the same number of values is drawn whatever is done.
    """
    draws = torch.rand(3, generator=generator).tolist()
    frames, intrinsics = clip.frames, clip.intrinsics.clone()
    if draws[0] < augmentation.flip:
        frames = frames.flip(-1)
        intrinsics[0, 2] = frames.shape[3] - 1 - intrinsics[0, 2]
    if augmentation.crop is not None:
        window = _window(frames.shape[2:], augmentation.crop, draws[1:])
        frames = _cut_image(frames, window)
        intrinsics[0, 2] += window.padding[0] - window.left
        intrinsics[1, 2] += window.padding[2] - window.top
    return Clip(frames.contiguous(), intrinsics)


class _Window(NamedTuple):
    """What is cut out of a padded image; the padding is left, right, top, bottom."""

    padding: list[int]
    top: int
    left: int
    crop: tuple[int, int]


def _window(size: Sequence[int], crop: tuple[int, int], draws: Sequence[float]) -> _Window:
    """Choose padding on all sides to at least the crop, and a random place in what is padded."""
    missing = [max(0, want - have) for want, have in zip(crop, size, strict=True)]
    before = [length // 2 for length in missing]
    padding = [before[1], missing[1] - before[1], before[0], missing[0] - before[0]]
    spare = [max(have - want, 0) + 1 for want, have in zip(crop, size, strict=True)]
    top, left = (min(int(draw * places), places - 1) for draw, places in zip(draws, spare, strict=True))
    return _Window(padding, top, left, crop)


def _cut_image(images: Tensor, window: _Window) -> Tensor:
    """Cut images (..., 3, H, W), with the mean colour around them."""
    left, right, top, bottom = window.padding
    height, width = images.shape[-2:]
    return _cut(pad_image(images, (height + top + bottom, width + left + right), (top, left)), window)


def _cut_map(values: Tensor, window: _Window, fill: int) -> Tensor:
    """Cut labels or depth (1, H, W), with a value around them."""
    return _cut(F.pad(values, window.padding, value=fill), window)


def _cut(values: Tensor, window: _Window) -> Tensor:
    height, width = window.crop
    return values[..., window.top : window.top + height, window.left : window.left + width]
