"""The default protocol: one adversarial image per image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.protocols.base import Absent, Crops, protocol


@protocol("whole-v1")
class Whole:
    """One adversarial image per image, at the dataset's size; void skipped; classes absent from both skipped."""

    absent: Absent = "skip"
    scope = "image"

    def crops(self, image: Tensor, mask: Tensor) -> Crops:
        """Return the whole image as one piece; see `EvaluationProtocol.crops`."""
        labels = mask.long()
        return Crops((image.float() / 255)[None], labels[None], labels)

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
        return scores[0].argmax(0)
