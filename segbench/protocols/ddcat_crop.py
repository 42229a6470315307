"""The protocol of the DDC-AT paper: every crop is attacked by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from segbench.attacks.tools.losses import predicted
from segbench.errors import SegbenchError
from segbench.protocols.base import Crops, Size, Void, protocol
from segbench.protocols.geometry import pad_image, pad_mask, resize, resize_image, resize_mask, windows
from segbench.reports.statistics import Absent


@dataclass(frozen=True)
class Layout:
    """Where the crops of an image belong.

    Attributes:
        corners: top left corner of each crop in the padded image.
        padded: height and width of the padded image.
        offset: rows above and columns left of the image in it.
        size: height and width of the image in it.
    """

    corners: list[Size]
    padded: Size
    offset: Size
    size: Size


@protocol("ddcat-crop-v1")
class DdcatCrop:
    """The paper's: overlapping crops, each attacked by itself; mirrored averaging for clean images only; absent zero.

    No single adversarial image exists under it: where crops overlap, each carries its own perturbation. Use "whole-v1"
    for new work.

    Args:
        size: length that the longer side is resized to, predictions are resized back and scored at the original
            size (512 for VOC 2012); or height and width that image and mask are resized to and scored at
            ([512, 1024] for Cityscapes).
        crop: height and width of a crop (473 for VOC 2012, 449 for Cityscapes).

    Source: Xu et al. 2021, section 6, https://arxiv.org/abs/2003.06555, and its published code
    """

    absent: Absent = "zero"
    void: Void = "skip"
    scope = "crop"
    answers: Literal["probabilities"] = "probabilities"

    def __init__(self, *, size: int | Size = 512, crop: int = 473) -> None:
        sides = (size,) if isinstance(size, int) else tuple(size)
        if min(sides) < 1 or len(sides) > 2:
            raise SegbenchError(f"ddcat-crop-v1: 'size' is a length or a height and a width, in pixels, got {size}")
        if crop < 1:
            raise SegbenchError(f"ddcat-crop-v1: 'crop' is at least 1 pixel, got {crop}")
        self.size = size if isinstance(size, int) else (size[0], size[1])
        self.crop = crop

    def crops(self, image: Tensor, mask: Tensor) -> Crops:
        """Resize, pad and cut; see `EvaluationProtocol.crops`."""
        labels = mask.long()
        if isinstance(self.size, int):
            truth, size = labels, _long_side((labels.shape[0], labels.shape[1]), self.size)
            labels = resize_mask(labels, size)
        else:
            size = self.size
            truth = labels = resize_mask(labels, size)
        padded = (max(size[0], self.crop), max(size[1], self.crop))
        offset = ((padded[0] - size[0]) // 2, (padded[1] - size[1]) // 2)
        image = pad_image(resize_image(image, size), padded, offset)
        labels = pad_mask(labels, padded, offset)
        stride = math.ceil(self.crop * 2 / 3)
        corners = windows(padded, (self.crop, self.crop), (stride, stride))
        boxes = [(slice(top, top + self.crop), slice(left, left + self.crop)) for top, left in corners]
        return Crops(
            torch.stack([image[:, rows, columns] for rows, columns in boxes]),
            torch.stack([labels[rows, columns] for rows, columns in boxes]),
            truth,
            Layout(corners, padded, offset, size),
        )

    def network(self, model: nn.Module) -> nn.Module:
        """Return the model itself: crops are attacked without the mirror."""
        return model

    def scores(self, model: nn.Module, images: Tensor, *, attacked: bool) -> Tensor:
        """Return class probabilities; those of a clean crop are averaged with its mirror's."""
        with torch.no_grad():
            probabilities: Tensor = model(images).softmax(1)
            if not attacked:
                probabilities = (probabilities + model(images.flip(3)).softmax(1).flip(3)) / 2
        return probabilities

    def merge(self, scores: Tensor, crops: Crops) -> Tensor:
        """Return the label map of the merged probabilities."""
        return predicted(self.merged(scores, crops), 0)

    def merged(self, scores: Tensor, crops: Crops) -> Tensor:
        """Average probabilities where crops overlap, cut off the padding, resize to the truth's size."""
        layout: Layout = crops.layout
        total = scores.new_zeros((scores.shape[1], *layout.padded))
        count = scores.new_zeros(layout.padded)
        for (top, left), own in zip(layout.corners, scores, strict=True):
            total[:, top : top + self.crop, left : left + self.crop] += own
            count[top : top + self.crop, left : left + self.crop] += 1
        (top, left), (height, width) = layout.offset, layout.size
        mean = (total / count)[:, top : top + height, left : left + width]
        return resize(mean, (crops.truth.shape[0], crops.truth.shape[1]))


def _long_side(size: Size, length: int) -> Size:
    """Return the size whose longer side is `length`, of the same proportions."""
    height, width = size
    if height > width:
        return length, max(1, round(length / height * width))
    return max(1, round(length / width * height)), length
