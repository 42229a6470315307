"""The default protocol: one adversarial image per image."""

from __future__ import annotations

import math
from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from segbench.attacks.tools.losses import predicted
from segbench.errors import SegbenchError
from segbench.protocols.base import Crops, Size, Void, protocol
from segbench.protocols.geometry import pad_image, resize, resize_image, resize_mask, unit, windows
from segbench.reports.statistics import Absent


@protocol("whole-v1")
class Whole:
    """One adversarial image per image; void skipped; classes absent from truth and prediction skipped.

    With a window, the network sees overlapping windows, and the attack's gradient flows through all of them into
    the one image. With a size, the resized image is attacked; its logits are resized back, and scored against
    the untouched mask.

    Args:
        size: height and width that images are attacked and predicted at; null for the dataset's own.
        window: height and width of sliding windows; null to see the image at once.
        stride: distance of windows, as a share of the window.
    """

    absent: Absent = "skip"
    void: Void = "skip"
    scope = "image"
    answers: Literal["logits"] = "logits"

    def __init__(self, *, size: Size | None = None, window: Size | None = None, stride: float = 2 / 3) -> None:
        for name, value in (("size", size), ("window", window)):
            if value is not None and (len(value) != 2 or min(value) < 1):
                raise SegbenchError(f"whole-v1: '{name}' is a height and a width in pixels, got {list(value)}")
        if not 0 < stride <= 1:
            raise SegbenchError(f"whole-v1: 'stride' is a share of the window, above 0 and at most 1, got {stride}")
        self.size = None if size is None else (size[0], size[1])
        self.window = None if window is None else (window[0], window[1])
        self.stride = stride

    def crops(self, image: Tensor, mask: Tensor) -> Crops:
        """Return the whole image as one piece; see `EvaluationProtocol.crops`."""
        labels = mask.long()
        if self.size is None:
            return Crops(unit(image)[None], labels[None], labels)
        return Crops(resize_image(image, self.size)[None], resize_mask(labels, self.size)[None], labels)

    def network(self, model: nn.Module) -> nn.Module:
        """Return the model, or the model under sliding windows."""
        return model if self.window is None else SlidingWindow(model, self.window, self.stride)

    def scores(self, model: nn.Module, images: Tensor, *, attacked: bool) -> Tensor:
        """Return the logits."""
        with torch.no_grad():
            logits: Tensor = self.network(model)(images)
        return logits

    def merge(self, scores: Tensor, crops: Crops) -> Tensor:
        """Return the label map of the one piece, at the size of the truth."""
        return predicted(self.merged(scores, crops), 0)

    def merged(self, scores: Tensor, crops: Crops) -> Tensor:
        """Return the logits of the one piece, at the size of the truth."""
        height, width = crops.truth.shape
        return resize(scores, (height, width))[0]


class SlidingWindow(nn.Module):
    """A network under sliding windows: logits are averaged where windows overlap.

    Each window keeps no activations but is run again for its gradient: of the whole image, only logits are kept.

    Args:
        model: network, images -> logits.
        window: height and width of a window; smaller images are padded with the mean colour below and right.
        stride: distance of windows, as a share of the window.
    """

    def __init__(self, model: nn.Module, window: Size, stride: float) -> None:
        super().__init__()
        self.model = model
        self.window = window
        self.stride = (max(1, math.ceil(window[0] * stride)), max(1, math.ceil(window[1] * stride)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, H, W) at the images' size."""
        height, width = images.shape[2:]
        area = (max(height, self.window[0]), max(width, self.window[1]))
        if area != (height, width):
            images = pad_image(images, area, (0, 0))
        corners = windows(area, self.window, self.stride)
        total = reduce(torch.add, (self._seen(images, corner) for corner in corners))
        count = images.new_zeros(area)
        for top, left in corners:
            count[top : top + self.window[0], left : left + self.window[1]] += 1
        return (total / count)[..., :height, :width]

    def _seen(self, images: Tensor, corner: Size) -> Tensor:
        """Return the logits of one window, with zeros around it up to the images' size."""
        top, left = corner
        bottom, right = top + self.window[0], left + self.window[1]
        view = images[..., top:bottom, left:right]
        if view.requires_grad:
            logits: Tensor = checkpoint(self.model, view, use_reentrant=False)
        else:
            logits = self.model(view)
        return F.pad(logits, (left, images.shape[3] - right, top, images.shape[2] - bottom))
