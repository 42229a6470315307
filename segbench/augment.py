"""Training augmentation: a function of a sample and a generator, so that what loads the sample changes nothing."""

from __future__ import annotations

from typing import Annotated

import torch
import torchvision.transforms.v2.functional as TF
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from model_zoo.base import IMAGENET_MEAN
from segbench.datasets.base import Sample

VOID = 255
BLUR_SIGMA = 1.1
"""What OpenCV takes for a 5x5 kernel."""

Positive = Annotated[float, Field(gt=0)]
Pixels = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Augmentation(BaseModel):
    """What is done to training images, in this order; by default nothing.

    Attributes:
        scale: smallest and largest factor of a random resize (bilinear without antialiasing, masks nearest).
        rotate: largest angle of a rotation, in degrees; the corners get the mean colour and void.
        rotate_probability: how often images are rotated.
        blur: how often images are blurred by a 5x5 Gaussian.
        flip: how often images are mirrored left to right.
        crop: height and width of a random crop; smaller images are padded with the mean colour and void first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: tuple[Positive, Positive] | None = None
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    rotate_probability: Probability = 0.5
    blur: Probability = 0.0
    flip: Probability = 0.0
    crop: tuple[Pixels, Pixels] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Augmentation:
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale is the smallest and the largest factor, got {list(self.scale)}")
        return self


def augment(sample: Sample, augmentation: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment a sample: image (3, h, w) float32 in [0, 1] and mask (h, w) int64.

    Args:
        sample: what to augment; it is not changed.
        augmentation: what to do.
        generator: all randomness; the same number of values is drawn whatever is done.

    Source: order, probabilities and padding of Xu et al. 2021, https://arxiv.org/abs/2003.06555
    Departs from it in: masks are resized to the nearest pixel centre, which keeps them on the image's grid.
    """
    draws = torch.rand(7, generator=generator).tolist()
    image, mask = sample.image.float() / 255, sample.mask[None]
    if augmentation.scale is not None:
        low, high = augmentation.scale
        factor = low + (high - low) * draws[0]
        size = [max(1, round(length * factor)) for length in mask.shape[1:]]
        image = TF.resize(image, size, antialias=False)
        mask = TF.resize(mask, size, interpolation=TF.InterpolationMode.NEAREST_EXACT)
    if augmentation.rotate and draws[1] < augmentation.rotate_probability:
        angle = augmentation.rotate * (2 * draws[2] - 1)
        image = TF.rotate(image, angle, interpolation=TF.InterpolationMode.BILINEAR, fill=list(IMAGENET_MEAN))
        mask = TF.rotate(mask, angle, interpolation=TF.InterpolationMode.NEAREST, fill=VOID)
    if draws[3] < augmentation.blur:
        image = TF.gaussian_blur(image, [5, 5], [BLUR_SIGMA, BLUR_SIGMA])
    if draws[4] < augmentation.flip:
        image, mask = TF.horizontal_flip(image), TF.horizontal_flip(mask)
    if augmentation.crop is not None:
        image, mask = _crop(image, mask, augmentation.crop, draws[5:])
    return image.clamp(0, 1).contiguous(), mask[0].long()


def _crop(image: Tensor, mask: Tensor, crop: tuple[int, int], draws: list[float]) -> tuple[Tensor, Tensor]:
    """Pad on all sides to at least the crop, then cut at a random place."""
    missing = [max(0, want - have) for want, have in zip(crop, mask.shape[1:], strict=True)]
    before = [length // 2 for length in missing]
    padding = [before[1], before[0], missing[1] - before[1], missing[0] - before[0]]
    if any(padding):
        image = TF.pad(image, padding, fill=list(IMAGENET_MEAN))
        mask = TF.pad(mask, padding, fill=VOID)
    spare = [have - want + 1 for want, have in zip(crop, mask.shape[1:], strict=True)]
    top, left = (min(int(draw * places), places - 1) for draw, places in zip(draws, spare, strict=True))
    return TF.crop(image, top, left, *crop), TF.crop(mask, top, left, *crop)
