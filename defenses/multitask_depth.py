"""Multitask training with self-supervised depth from video."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from segbench.defenses.base import Losses, auxiliary_loss, cross_entropy, defense
from segbench.defenses.tools.photometric import reprojection_loss, rigid_transform, smoothness
from segbench.model_zoo.base import Segmenter

MIN_DEPTH, MAX_DEPTH = 0.1, 100.0
"""Range of depths that the head can express, in the unknown unit of a single camera's scale."""


@defense("multitask-depth")
class MultitaskDepth(nn.Module):
    """Segmentation with self-supervised depth from video on the shared trunk; depth is dropped at inference.

    Without `video_loss` (a dataset with clips) this is training without a defense at a smaller learning rate of the
    trunk: the training has to call both losses.

    Published: a shared encoder, gradients of the tasks scaled where they enter it (0.1 and 0.9 in the group's public
    SGDepth), photometric loss 0.85 SSIM + 0.15 L1, minimum over frames, auto-masking, edge-aware smoothness with weight
    0.001, depth in training only.

    Our reconstruction: the depth head (a classifier of the architecture with one output, at one scale), the pose
    network (five convolutions), the gradients are scaled behind the context module, which is shared too.

    Args:
        segmenter: the network to train.
        segmentation_scale: factor on the segmentation's gradient into the trunk.
        depth_scale: factor on the depth's gradient into the trunk.
        smoothness_weight: weight of the smoothness of the depth.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Klingner et al. 2020, section 3, https://arxiv.org/abs/2004.11072; SGDepth:
        https://arxiv.org/abs/2007.06936; photometric loss: Godard et al. 2019, https://arxiv.org/abs/1806.01260.
    Departs from it in: see above.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        segmentation_scale: float = 0.1,
        depth_scale: float = 0.9,
        smoothness_weight: float = 0.001,
        aux_weight: float = 0.4,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.depth_head = segmenter.make_classifier(1)
        self.pose = PoseNetwork()
        self.segmentation_scale = segmentation_scale
        self.depth_scale = depth_scale
        self.smoothness_weight = smoothness_weight
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the labelled batch; see `defenses.base.TrainingDefense`."""
        main_features, earlier = self.segmenter.features(images)
        main_features = scale_gradient(main_features, self.segmentation_scale)
        earlier = None if earlier is None else scale_gradient(earlier, self.segmentation_scale)
        logits = self.segmenter.classify(self.segmenter.classifier, main_features, images)
        main = cross_entropy(logits, masks, self.ignore_index)
        auxiliary = auxiliary_loss(self.segmenter, earlier, images, masks, self.ignore_index)
        return Losses(main + self.aux_weight * auxiliary, {"main": main.detach(), "auxiliary": auxiliary.detach()})

    def video_loss(self, frames: Tensor, intrinsics: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of a batch of clips; see `defenses.base.LearnsFromVideo`."""
        before, target, after = frames.unbind(1)
        transforms = [rigid_transform(self.pose(target, source)) for source in (before, after)]
        return self.depth_loss(frames, transforms, intrinsics)

    def depth_loss(self, frames: Tensor, transforms: list[Tensor], intrinsics: Tensor) -> Losses:
        """Return the loss of a batch of clips whose camera motion is known.

        Args:
            frames: (N, 3, 3, H, W) in [0, 1]: before, the frame itself, after.
            transforms: camera of the frame itself -> cameras before and after, (N, 4, 4) each.
            intrinsics: (N, 3, 3), in pixels.
        """
        before, target, after = frames.unbind(1)
        disparity = self.disparity(target)
        with torch.autocast(frames.device.type, enabled=False):  # half precision is too coarse for pixel coordinates
            photometric = reprojection_loss(target, [before, after], 1 / disparity, transforms, intrinsics)
        smooth = smoothness(disparity, target)
        total = photometric + self.smoothness_weight * smooth
        return Losses(total, {"photometric": photometric.detach(), "smoothness": smooth.detach()})

    def disparity(self, images: Tensor) -> Tensor:
        """Return 1 / depth, (N, 1, H, W)."""
        features = scale_gradient(self.segmenter.features(images).main, self.depth_scale)
        share = self.segmenter.classify(self.depth_head, features, images).float().sigmoid()
        return 1 / MAX_DEPTH + (1 / MIN_DEPTH - 1 / MAX_DEPTH) * share

    def deploy(self) -> Segmenter:
        """Return the network without depth head and pose network."""
        return self.segmenter


class PoseNetwork(nn.Module):
    """Two frames -> the camera motion from the first to the second, (N, 6), small at first."""

    def __init__(self) -> None:
        super().__init__()
        widths = (6, 16, 32, 64, 64)
        layers: list[nn.Module] = []
        for channels, wider in pairwise(widths):
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 6, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return rotation vector and translation, (N, 6)."""
        motion: Tensor = self.layers(torch.cat([first, second], 1)).float().mean((2, 3))
        return 0.01 * motion


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(features: Tensor, factor: float) -> Tensor:
    """Return the features as they are; their gradient is multiplied by `factor` on the way back."""
    scaled: Tensor = _ScaledGradient.apply(features, factor)
    return scaled
