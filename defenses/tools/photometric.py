"""Photometric losses of self-supervised depth: reconstruct one video frame from another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rigid_transform(motion: Tensor) -> Tensor:
    """Return the (N, 4, 4) rigid transforms given by rotation vectors and translations.

    Args:
        motion: (N, 6): the rotation axis times the angle in radians, then the translation.
    """
    rotation, translation = motion[:, :3], motion[:, 3:]
    x, y, z = rotation.unbind(1)
    zero = torch.zeros_like(x)
    generator = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    top = torch.cat([torch.matrix_exp(generator), translation.unsqueeze(2)], 2)
    bottom = motion.new_tensor([0, 0, 0, 1]).expand(len(motion), 1, 4)
    return torch.cat([top, bottom], 1)


def reproject(source: Tensor, depth: Tensor, transform: Tensor, intrinsics: Tensor) -> Tensor:
    """Reconstruct the target frame by sampling the source frame, (N, 3, H, W).

    Args:
        source: another frame, (N, 3, H, W).
        depth: depth of the target frame, (N, 1, H, W), positive.
        transform: maps points from the target camera to the source camera, (N, 4, 4).
        intrinsics: (N, 3, 3), in pixels.
    """
    count, _, height, width = source.shape
    rows, columns = torch.meshgrid(
        torch.arange(height, device=source.device), torch.arange(width, device=source.device), indexing="ij"
    )
    pixels = torch.stack([columns, rows, torch.ones_like(rows)]).to(depth).flatten(1)
    points = (torch.linalg.inv(intrinsics) @ pixels) * depth.flatten(2)
    seen = intrinsics @ (transform[:, :3, :3] @ points + transform[:, :3, 3:])
    places = seen[:, :2] / seen[:, 2:].clamp_min(1e-6)
    size = places.new_tensor([width, height]).view(1, 2, 1)
    grid = ((2 * places + 1) / size - 1).view(count, 2, height, width).permute(0, 2, 3, 1)
    return F.grid_sample(source, grid, padding_mode="border", align_corners=False)


def photometric_error(first: Tensor, second: Tensor) -> Tensor:
    """Return 0.85 (1 - SSIM) / 2 + 0.15 L1 of every pixel, (N, H, W), with SSIM over 3x3 windows.

    Args:
        first: images, (N, 3, H, W) in [0, 1].
        second: images of the same shape and range.
    """
    means, squares, product = _local(first, second)
    variances = [square - mean.square() for square, mean in zip(squares, means, strict=True)]
    covariance = product - means[0] * means[1]
    light, contrast = 0.01**2, 0.03**2
    similar = (2 * means[0] * means[1] + light) * (2 * covariance + contrast)
    total = (means[0].square() + means[1].square() + light) * (variances[0] + variances[1] + contrast)
    dissimilar = ((1 - similar / total) / 2).clamp(0, 1)
    return (0.85 * dissimilar + 0.15 * (first - second).abs()).mean(1)


def _local(first: Tensor, second: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return the 3x3 window means of two images, of their squares and of their product, with reflected borders."""
    first, second = (F.pad(image, (1, 1, 1, 1), mode="reflect") for image in (first, second))
    means = [F.avg_pool2d(image, 3, 1) for image in (first, second)]
    squares = [F.avg_pool2d(image.square(), 3, 1) for image in (first, second)]
    return means, squares, F.avg_pool2d(first * second, 3, 1)


def reprojection_loss(
    target: Tensor, sources: list[Tensor], depth: Tensor, transforms: list[Tensor], intrinsics: Tensor
) -> Tensor:
    """Mean over pixels of the smallest photometric error, over all sources with and without reprojection.

    A pixel that some source matches best without reprojection gets no gradient (auto-masking). This happens for objects
    that move with the camera, and for clips without motion.

    Args:
        target: frame to reconstruct, (N, 3, H, W) in [0, 1].
        sources: neighbouring frames, each (N, 3, H, W).
        depth: depth of the target frame, (N, 1, H, W).
        transforms: one (N, 4, 4) tensor per source, from the target camera to the camera of the source.
        intrinsics: (N, 3, 3), in pixels.
    """
    errors = [photometric_error(source, target) for source in sources]
    for source, transform in zip(sources, transforms, strict=True):
        errors.append(photometric_error(reproject(source, depth, transform, intrinsics), target))
    return torch.stack(errors).amin(0).mean()


def smoothness(disparity: Tensor, images: Tensor) -> Tensor:
    """Mean absolute gradient of the disparity divided by its mean, with smaller weights at image edges.

    Args:
        disparity: (N, 1, H, W), positive.
        images: (N, 3, H, W) in [0, 1].
    """
    scaled = disparity / disparity.mean((2, 3), keepdim=True)
    total = disparity.new_zeros(())
    for dim in (2, 3):
        edge = images.diff(dim=dim).abs().mean(1, keepdim=True)
        total = total + (scaled.diff(dim=dim).abs() * torch.exp(-edge)).mean()
    return total
