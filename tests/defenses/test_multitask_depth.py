from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segbench.defenses.base import LearnsFromVideo, segmentation_loss
from segbench.defenses.multitask_depth import MAX_DEPTH, MIN_DEPTH, MultitaskDepth, scale_gradient
from segbench.model_zoo.pspnet import pspnet


def test_gradient_is_scaled_and_the_value_is_not() -> None:
    features = torch.randn(2, 3, requires_grad=True)
    scaled = scale_gradient(features, 0.1)
    assert torch.equal(scaled, features)
    (scaled * 5).sum().backward()
    torch.testing.assert_close(features.grad, torch.full_like(features, 0.5))


def test_segmentation_gradient_is_scaled_in_the_trunk_and_whole_in_the_heads(make_segmenter, batch) -> None:
    images, masks = batch
    scaled, plain = make_segmenter().eval(), make_segmenter().eval()
    MultitaskDepth(scaled, segmentation_scale=0.1).loss(images, masks, torch.Generator()).total.backward()
    segmentation_loss(plain, images, masks, aux_weight=0.4, ignore_index=255).total.backward()
    for (name, mine), theirs in zip(scaled.named_parameters(), plain.parameters(), strict=True):
        factor = 0.1 if name.startswith("trunk") else 1.0
        torch.testing.assert_close(mine.grad, factor * theirs.grad)


def test_video_trains_trunk_depth_head_and_pose_network(segmenter, film) -> None:
    clip = film(2)
    defense = MultitaskDepth(segmenter)
    assert isinstance(defense, LearnsFromVideo)
    losses = defense.video_loss(clip.frames, clip.intrinsics, torch.Generator())
    assert set(losses.terms) == {"photometric", "smoothness"}
    losses.total.backward()
    for part in (segmenter.trunk, defense.depth_head, defense.pose):
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in part.parameters())
    assert all(p.grad is None for p in segmenter.classifier.parameters())


def test_each_frame_is_reprojected_by_its_own_motion(segmenter, film, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = film(2)
    before, target = clip.frames[:, 0], clip.frames[:, 1]
    defense = MultitaskDepth(segmenter).eval()

    def known(first: Tensor, second: Tensor) -> Tensor:
        assert torch.equal(first, target)
        transform = clip.transforms[0 if torch.equal(second, before) else 1]
        return torch.cat([torch.zeros(2, 3), transform[:, :3, 3]], 1)

    monkeypatch.setattr(defense.pose, "forward", known)
    found = defense.video_loss(clip.frames, clip.intrinsics, torch.Generator()).total
    expected = defense.depth_loss(clip.frames, clip.transforms, clip.intrinsics).total
    swapped = defense.depth_loss(clip.frames, clip.transforms[::-1], clip.intrinsics).total
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, swapped)


@pytest.mark.parametrize(("logit", "depth"), [(-100.0, MAX_DEPTH), (100.0, MIN_DEPTH), (0.0, 0.1998)])
def test_disparity_spans_the_depths_of_the_head(logit: float, depth: float, segmenter, batch) -> None:
    defense = MultitaskDepth(segmenter).eval()
    torch.nn.init.zeros_(defense.depth_head[-1].weight)
    torch.nn.init.constant_(defense.depth_head[-1].bias, logit)
    found = 1 / defense.disparity(batch[0])
    torch.testing.assert_close(found, torch.full_like(found, depth), rtol=1e-3, atol=0)


def depth_error(defense: MultitaskDepth, images: Tensor, depth: Tensor) -> float:
    """Mean relative error, after the usual scaling to the true median."""
    defense.eval()
    with torch.no_grad():
        predicted = 1 / defense.disparity(images)
    defense.train()
    ratio = depth.flatten(1).median(1).values / predicted.flatten(1).median(1).values
    return ((predicted * ratio.view(-1, 1, 1, 1) - depth).abs() / depth).mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["known", "learned"])
def test_depth_is_learned_from_a_moving_scene(motion: str, film) -> None:
    torch.manual_seed(0)
    defense = MultitaskDepth(pspnet(3, encoder="tiny", bins=(1, 2)), depth_scale=1.0).train()
    optimizer = torch.optim.Adam(defense.parameters(), lr=2e-3)
    unseen = film(16, seed=10_000)
    before = depth_error(defense, unseen.frames[:, 1], unseen.depth)
    for step in range(200):
        clip = film(8, seed=step)
        if motion == "known":
            losses = defense.depth_loss(clip.frames, clip.transforms, clip.intrinsics)
        else:
            losses = defense.video_loss(clip.frames, clip.intrinsics, torch.Generator())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert depth_error(defense, unseen.frames[:, 1], unseen.depth) < 0.75 * before
