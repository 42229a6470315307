from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from segbench.datasets.base import OffersClips
from segbench.datasets.digits import Digits
from segbench.datasets.tools import moving
from segbench.datasets.tools.moving import FLOOR, MovingScene
from segbench.defenses.tools.photometric import reprojection_loss


def test_clips_keep_the_contract() -> None:
    data = Digits(train=7, val=5, dev=3, size=32)
    assert isinstance(data, OffersClips)
    for split, length in (("train", 7), ("val", 5), ("dev", 3)):
        clips = data.clips(split)
        assert len(clips) == length
        frames, intrinsics = clips[length - 1]
        assert frames.shape == (3, 3, 32, 32)
        assert frames.dtype == intrinsics.dtype == torch.float32
        assert 0 <= frames.min() < frames.max() <= 1
        assert torch.equal(intrinsics, torch.tensor([[32, 0, 15.5], [0, 32, 15.5], [0, 0, 1]]))
        with pytest.raises(IndexError):
            clips[length]


def test_a_clip_depends_on_nothing_but_its_number() -> None:
    first = Digits().clips("train")[3].frames
    moving._scene.cache_clear()
    clips = Digits(train=4).clips("train")
    for index in range(4):
        clips[index]
    assert torch.equal(clips[3].frames, first)
    assert not torch.equal(clips[2].frames, first)
    assert not torch.equal(Digits().clips("val")[3].frames, first)
    assert not torch.equal(Digits(seed=1).clips("train")[3].frames, first)


@pytest.fixture(scope="module")
def scenes() -> list[MovingScene]:
    clips = Digits().clips("val")
    return [clips.scene(index) for index in range(12)]


def stacked(scenes: list[MovingScene]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    frames, depth, motion, intrinsics = (torch.stack(parts) for parts in zip(*scenes, strict=True))
    return frames.float() / 255, depth[:, None], motion, intrinsics


def moved(motion: Tensor) -> Tensor:
    """Points in the camera -> points in a camera that stands at a place."""
    transforms = torch.eye(4).repeat(len(motion), 1, 1)
    transforms[:, :3, 3] = -motion
    return transforms


def test_depth_and_motion_explain_the_frames_by_each_other(scenes: list[MovingScene]) -> None:
    frames, depth, motion, intrinsics = stacked(scenes)
    before, itself, after = frames.unbind(1)

    def error(depth: Tensor, motion: Tensor) -> float:
        return reprojection_loss(itself, [before, after], depth, [moved(-motion), moved(motion)], intrinsics).item()

    true, unmoved = error(depth, motion), error(depth, 0 * motion)
    assert true < 0.15 * unmoved
    assert error(depth, -motion) > 0.5 * unmoved
    assert min(error(torch.full_like(depth, flat), motion) for flat in (1.5, 2, 3, 4)) > 2 * true


def test_the_floor_recedes_and_digits_stand_before_it(scenes: list[MovingScene]) -> None:
    size = 48
    place = (np.arange(size) + 0.5) / size
    floor = 1 / ((1 - place) / FLOOR[0] + place / FLOOR[1])
    for scene in scenes:
        depth = scene.depth.numpy()
        behind = np.isclose(depth, floor[:, None], rtol=1e-4)
        assert 0.3 < behind.mean() < 0.95
        assert (depth[~behind] < FLOOR[1]).all()
        assert len(np.unique(depth[~behind])) <= 2
