"""The protocol of the Segmentation Ensemble Attack, so that its published numbers can be compared."""

from __future__ import annotations

from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from segbench.attacks.tools.losses import predicted
from segbench.errors import SegbenchError
from segbench.protocols.base import Crops, Void, protocol
from segbench.reports.statistics import Absent


@protocol("sea-v2")
class Sea:
    """SEA's: short side resized, centre crop; void counts as background, if there is one; absent classes skipped.

    Args:
        size: height and width of the crop (473 for VOC 2012, 512 for ADE20K).

    Source: Croce et al. 2024, https://arxiv.org/abs/2306.12941, and its published code
    """

    absent: Absent = "skip"
    void: Void = "background"
    scope = "image"
    answers: Literal["logits"] = "logits"

    def __init__(self, *, size: int = 473) -> None:
        if size < 1:
            raise SegbenchError(f"sea-v2: 'size' is at least 1 pixel, got {size}")
        self.size = size

    def crops(self, image: Tensor, mask: Tensor) -> Crops:
        """Resize with Pillow and cut the centre; see `EvaluationProtocol.crops`.

        Float images are rounded to 8 bits, because the definition resizes those.
        """
        pixels = (image * 255).round().to(torch.uint8) if image.is_floating_point() else image
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        labels = Image.fromarray(mask.to(torch.uint8).contiguous().numpy())
        short = min(picture.size)
        # Cut off and not rounded, as the published code does.
        sides = (int(picture.width * self.size / short), int(picture.height * self.size / short))
        left, top = (round((side - self.size) / 2) for side in sides)
        box = (left, top, left + self.size, top + self.size)
        picture = picture.resize(sides, Image.Resampling.BILINEAR).crop(box)
        labels = labels.resize(sides, Image.Resampling.NEAREST).crop(box)
        truth = _tensor(labels)[..., 0].long()
        return Crops(_tensor(picture).permute(2, 0, 1).float()[None] / 255, truth[None], truth)

    def network(self, model: nn.Module) -> nn.Module:
        """Return the model itself."""
        return model

    def scores(self, model: nn.Module, images: Tensor, *, attacked: bool) -> Tensor:
        """Return the logits."""
        with torch.no_grad():
            logits: Tensor = model(images)
        return logits

    def merge(self, scores: Tensor, crops: Crops) -> Tensor:
        """Return the label map of the one piece."""
        return predicted(self.merged(scores, crops), 0)

    def merged(self, scores: Tensor, crops: Crops) -> Tensor:
        """Return the logits of the one piece."""
        return scores[0]


def _tensor(picture: Image.Image) -> Tensor:
    """Return the bytes of a picture, (H, W, channels)."""
    content = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return content.view(picture.height, picture.width, -1)
