from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segbench.datasets.tools.frames import Camera, ClipFiles, DepthFiles, FileClips, FileDepth, checked_camera, resized
from segbench.errors import DataError

Write = Callable[..., None]
CAMERA = Camera(torch.tensor([[100.0, 0, 3.5], [0, 90.0, 1.5], [0, 0, 1]]), baseline=50.0)


def read_camera(path: Path) -> Camera:
    return CAMERA


@pytest.fixture
def clip(tmp_path: Path, write: Write) -> ClipFiles:
    paths = tuple(tmp_path / f"{name}.png" for name in "abc")
    for value, path in enumerate(paths):
        write(path, np.full((4, 8, 3), value * 51))
    return ClipFiles(paths, tmp_path / "camera")


@pytest.fixture
def disparity(tmp_path: Path, write: Write) -> DepthFiles:
    write(tmp_path / "d.png", np.array([[0, 1, 257], [513, 129, 2561]]), bits=16)
    return DepthFiles(tmp_path / "d.png", tmp_path / "camera")


def test_frames_come_in_order_with_their_camera(clip: ClipFiles) -> None:
    clips = FileClips([clip], read_camera, None)
    frames, intrinsics = clips[0]
    assert len(clips) == 1
    assert frames.shape == (3, 3, 4, 8)
    torch.testing.assert_close(frames.amax((1, 2, 3)), torch.tensor([0.0, 0.2, 0.4]))
    assert torch.equal(intrinsics, CAMERA.intrinsics)


def test_a_point_is_seen_at_the_same_place_of_a_resized_frame(clip: ClipFiles) -> None:
    frames, intrinsics = FileClips([clip], read_camera, (2, 16))[0]
    assert frames.shape == (3, 3, 2, 16)
    point = torch.tensor([0.3, -0.2, 7.0])
    before, after = ((matrix @ point)[:2] / point[2] + 0.5 for matrix in (CAMERA.intrinsics, intrinsics))
    # Places as shares of width and height, from the frame's edge.
    torch.testing.assert_close(before / torch.tensor([8, 4]), after / torch.tensor([16, 2]))
    assert torch.equal(resized(CAMERA.intrinsics, (4, 8), (4, 8)), CAMERA.intrinsics)


def test_frames_of_two_sizes_are_an_error(clip: ClipFiles, write: Write) -> None:
    write(clip.frames[2], np.zeros((4, 7, 3)))
    with pytest.raises(DataError, match=r"c\.png: has another size than b\.png"):
        FileClips([clip], read_camera, None)[0]


def test_disparity_becomes_depth_by_hand(disparity: DepthFiles) -> None:
    # Disparities (value - 1) / 256: unknown, 0, 1; 2, 0.5, 10. Depth is 50 over that.
    expected = torch.tensor([[0.0, 0, 50], [25, 100, 5]])
    torch.testing.assert_close(FileDepth([disparity], read_camera, 1, None)[0], expected)
    torch.testing.assert_close(FileDepth([disparity], read_camera, 0, None)[0][0, 1], torch.tensor(50 * 256.0))
    doubled = FileDepth([disparity], read_camera, 1, (4, 6))[0]
    assert torch.equal(doubled, expected.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_map_of_eight_bits_is_refused(disparity: DepthFiles, write: Write) -> None:
    write(disparity.disparity, np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"d\.png: a disparity map is a grey PNG of 16 bits a pixel, .* PNG, 8 bits"):
        FileDepth([disparity], read_camera, 1, None)[0]
    disparity.disparity.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"d\.png: cannot be read as a disparity map"):
        FileDepth([disparity], read_camera, 1, None)[0]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_camera_has_finite_positive_numbers(tmp_path: Path, number: float) -> None:
    matrix = CAMERA.intrinsics.clone()
    matrix[1, 1] = number
    for intrinsics, baseline in ((matrix, 50.0), (CAMERA.intrinsics, number)):
        with pytest.raises(DataError, match=r"camera: a camera has finite numbers"):
            checked_camera(tmp_path / "camera", intrinsics, baseline)
    assert checked_camera(tmp_path / "camera", *CAMERA) == CAMERA
