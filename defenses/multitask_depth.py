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
"""Range of depths that the head can predict, in an arbitrary unit: one camera does not determine the scale."""


@defense("multitask-depth")
class MultitaskDepth(nn.Module):
    """Multitask training with self-supervised depth from video on the shared trunk; the depth head is not deployed.

    Training must call both `loss` and `video_loss`, so it needs a dataset with clips. `loss` alone equals training
    without a defense with smaller gradients in the trunk.

    Published: a shared encoder; the gradients of segmentation and depth are scaled when they enter it (by 0.1 and 0.9
    in the group's public SGDepth); photometric loss 0.85 SSIM + 0.15 L1 with the minimum over frames and auto-masking;
    edge-aware smoothness with weight 0.001; depth in training only.

    Our reconstruction: the depth head (a classifier of the architecture with one output, at one scale), the pose
    network (five convolutions), and scaling the gradients after the context module, which both tasks share.

    Args:
        segmenter: the network to train.
        segmentation_scale: factor of the segmentation gradient that enters the trunk.
        depth_scale: factor of the depth gradient that enters the trunk.
        smoothness_weight: weight of the depth smoothness loss.
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
        """Return the loss of a batch of clips with known camera motion.

        Args:
            frames: (N, 3, 3, H, W) in [0, 1]: the previous, current and next frame.
            transforms: two (N, 4, 4) tensors that map points from the current camera to the previous and next camera.
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
        """Return the predicted 1 / depth, (N, 1, H, W)."""
        features = scale_gradient(self.segmenter.features(images).main, self.depth_scale)
        share = self.segmenter.classify(self.depth_head, features, images).float().sigmoid()
        return 1 / MAX_DEPTH + (1 / MIN_DEPTH - 1 / MAX_DEPTH) * share

    def deploy(self) -> Segmenter:
        """Return the network without the depth head and the pose network."""
        return self.segmenter


class PoseNetwork(nn.Module):
    """Predicts the camera motion between two frames, (N, 6); motions are small at initialisation."""

    def __init__(self) -> None:
        super().__init__()
        widths = (6, 16, 32, 64, 64)
        layers: list[nn.Module] = []
        for channels, wider in pairwise(widths):
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 6, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the rotation vector and the translation from the first to the second frame, (N, 6)."""
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
    """Return the features unchanged, and multiply their gradient by `factor` in the backward pass."""
    scaled: Tensor = _ScaledGradient.apply(features, factor)
    return scaled
