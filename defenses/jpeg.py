"""JPEG compression of the input."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segbench.defenses.base import defense
from segbench.defenses.tools.smooth_jpeg import smooth_jpeg
from segbench.defenses.tools.transforms import InputTransform
from segbench.model_zoo.base import Segmenter


@defense("jpeg")
def jpeg(
    segmenter: Segmenter, *, quality: int = 75, aux_weight: float = 0.4, ignore_index: int = 255
) -> InputTransform:
    """JPEG compression of the images at inference; the network is trained without a defense.

    Adaptive attacks break this defense, so compare the adaptive with the oblivious score. The adaptive attacker's
    forward pass uses real JPEG files, and its backward pass the gradient of `smooth_jpeg`. The straight-through
    gradient would give a weaker attack and make the defense look better than it is.

    Args:
        segmenter: the network to train.
        quality: quality of the compression, 1 to 100.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: `quality` is not in 1 to 100.

    Source: Dziugaite et al. 2016, https://arxiv.org/abs/1608.00853; Guo et al. 2018, https://arxiv.org/abs/1711.00117.
        Adaptive attack: Shin and Song 2017, JPEG-resistant Adversarial Images.
    Departs from it in: Guo et al. also train on transformed images.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"jpeg: quality must be 1 to 100, got {quality}")
    return InputTransform(
        segmenter,
        transform=partial(compress, quality=quality),
        stand_in=partial(smooth_jpeg, quality=quality),
        aux_weight=aux_weight,
        ignore_index=ignore_index,
    )


def compress(images: Tensor, quality: int) -> Tensor:
    """Encode images as 8-bit JPEG files and decode them again (on the CPU, chroma at half resolution).

    Args:
        images: (N, 3, H, W) in [0, 1].
        quality: 1 to 100.
    """
    levels = (images.detach().float() * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    stacked = np.stack([_through_a_file(image, quality) for image in levels])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).to(images) / 255


def _through_a_file(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(file) as decoded:
            return np.array(decoded)
