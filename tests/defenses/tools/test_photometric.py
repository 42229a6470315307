"""Reprojection against closed forms, and on a rendered scene whose depth and motion are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segbench.defenses.tools.photometric import (
    photometric_error,
    reproject,
    reprojection_loss,
    rigid_transform,
    smoothness,
)


def test_rigid_transform_of_a_quarter_turn() -> None:
    transform = rigid_transform(torch.tensor([[0, 0, math.pi / 2, 1, 2, 3]]))[0]
    expected = torch.tensor([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    torch.testing.assert_close(transform, expected, atol=1e-6, rtol=0)


def test_without_motion_the_source_comes_back() -> None:
    source = torch.rand(2, 3, 6, 8)
    intrinsics = torch.tensor([[7.0, 0, 3.5], [0, 7.0, 2.5], [0, 0, 1]]).repeat(2, 1, 1)
    same = reproject(source, torch.rand(2, 1, 6, 8) + 1, torch.eye(4).repeat(2, 1, 1), intrinsics)
    torch.testing.assert_close(same, source, atol=1e-5, rtol=0)


def test_sideways_motion_shifts_by_focal_length_over_depth() -> None:
    source = torch.rand(1, 3, 6, 12)
    intrinsics = torch.tensor([[[8.0, 0, 5.5], [0, 8.0, 2.5], [0, 0, 1]]])
    transform = torch.eye(4)[None].clone()
    transform[0, 0, 3] = 0.5
    shifted = reproject(source, torch.full((1, 1, 6, 12), 2.0), transform, intrinsics)
    torch.testing.assert_close(shifted[..., :-2], source[..., 2:], atol=1e-5, rtol=0)


def test_photometric_error_equals_slow_ssim() -> None:
    first, second = torch.rand(1, 3, 5, 6), torch.rand(1, 3, 5, 6)
    padded = [np.pad(t[0].double().numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect") for t in (first, second)]
    expected = np.zeros((5, 6))
    for i in range(5):
        for j in range(6):
            for channel in range(3):
                a, b = (p[channel, i : i + 3, j : j + 3] for p in padded)
                covariance = ((a - a.mean()) * (b - b.mean())).mean()
                ssim = (2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
                ssim /= (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var() + b.var() + 9e-4)
                apart = abs(float(first[0, channel, i, j]) - float(second[0, channel, i, j]))
                expected[i, j] += (0.85 * np.clip((1 - ssim) / 2, 0, 1) + 0.15 * apart) / 3
    np.testing.assert_allclose(photometric_error(first, second)[0].numpy(), expected, atol=1e-5)
    assert photometric_error(first, first).max() < 1e-6


def test_true_depth_explains_the_scene_best(film) -> None:
    clip = film(4)
    before, target, after = clip.frames.unbind(1)

    def loss(depth: torch.Tensor) -> float:
        return reprojection_loss(target, [before, after], depth, clip.transforms, clip.intrinsics).item()

    true = loss(clip.depth)
    assert true < 0.01
    for factor in (0.6, 0.8, 1.25, 1.6):
        assert loss(clip.depth * factor) > 1.5 * true
    assert loss(torch.full_like(clip.depth, 0.3)) > 1.5 * true


def test_wrong_direction_of_motion_explains_it_worse(film) -> None:
    clip = film(4)
    before, target, after = clip.frames.unbind(1)
    right = reprojection_loss(target, [before, after], clip.depth, clip.transforms, clip.intrinsics)
    wrong = reprojection_loss(target, [before, after], clip.depth, clip.transforms[::-1], clip.intrinsics)
    assert wrong > 2 * right


def test_what_stands_still_in_the_picture_gives_no_gradient(film) -> None:
    clip = film(1)
    target = clip.frames[:, 1]
    depth = clip.depth.clone().requires_grad_()
    loss = reprojection_loss(target, [target, target], depth, clip.transforms, clip.intrinsics)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert depth.grad.abs().max() < 1e-6


def test_smoothness_by_hand() -> None:
    disparity = torch.tensor([[1.0, 3.0], [1.0, 3.0]]).view(1, 1, 2, 2)
    grey = torch.zeros(1, 3, 2, 2)
    edge = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(1, 3, 2, 2)
    assert smoothness(disparity, grey).item() == pytest.approx(1.0)
    assert smoothness(disparity, edge).item() == pytest.approx(math.exp(-1))
    assert smoothness(5 * disparity, grey).item() == pytest.approx(1.0)
    assert smoothness(torch.ones(1, 1, 2, 2), edge).item() == 0
