from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from segbench.config.matrix import Matrix
from segbench.datasets.kitti import Kitti
from segbench.errors import DataError
from segbench.execution import prepare
from segbench.store import Store
from segbench.training.train import run_training

Write = Callable[..., None]
CALIBRATION = """calib_time: 09-Jan-2012 13:57:47
S_rect_02: 1.242000e+03 3.750000e+02
P_rect_02: 7.0e+02 0.0 6.0e+02 4.0e+01 0.0 7.1e+02 1.7e+02 2.0e-01 0.0 0.0 1.0 2.0e-03
P_rect_03: 7.0e+02 0.0 6.0e+02 -3.1e+02 0.0 7.1e+02 1.7e+02 2.0e+00 0.0 0.0 1.0 2.0e-03
"""


@pytest.fixture
def root(kitti_root: Path, write: Write) -> Path:
    """All files, clips and disparities too."""
    folder = kitti_root / "training"
    (folder / "calib_cam_to_cam").mkdir()
    for number in range(200):
        for frame in (9, 11):
            write(folder / "image_2" / f"{number:06d}_{frame:02d}.png", np.full((2, 3, 3), 10 * frame))
        write(folder / "disp_occ_0" / f"{number:06d}_10.png", [[0, 256, 512], [2560, 128, 0]], bits=16)
        (folder / "calib_cam_to_cam" / f"{number:06d}.txt").write_text(CALIBRATION)
    return kitti_root


def test_splits_are_the_first_160_and_the_last_40(kitti_root: Path) -> None:
    data = Kitti(kitti_root)
    train, val = data.split("train"), data.split("val")
    assert (len(train), len(val)) == (160, 40) == (data.lengths["train"], data.lengths["val"])
    assert (train[0].name, train[159].name, val[0].name, val[39].name) == ("000000", "000159", "000160", "000199")
    assert int(val[7].image[0, 0, 0]) == 167


def test_labels_are_those_of_cityscapes(kitti_root: Path) -> None:
    data = Kitti(kitti_root)
    assert len(data.classes) == len(data.palette) == 19
    assert data.split("val")[0].mask.tolist() == [[0, 1, 2], [255, 255, 18]]
    assert Kitti(kitti_root, size=(4, 6)).split("val")[0].mask.shape == (4, 6)


def test_a_clip_is_frames_9_to_11_seen_by_the_left_colour_camera(root: Path) -> None:
    clips = Kitti(root, video=True).clips("val")
    assert len(clips) == 40
    torch.testing.assert_close(clips[3].frames.amax((1, 2, 3)) * 255, torch.tensor([90.0, 163, 110]))
    assert torch.equal(clips[3].intrinsics, torch.tensor([[700.0, 0, 600], [0, 710, 170], [0, 0, 1]]))


def test_depth_is_baseline_times_focal_length_over_disparity(root: Path) -> None:
    depth = Kitti(root, depth=True).depth("train")[0]
    torch.testing.assert_close(depth, torch.tensor([[0.0, 350, 175], [35, 700, 0]]))


def test_what_is_missing_is_said_in_a_sentence(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"semantic: no such folder; get data_semantics\.zip at https"):
        Kitti(tmp_path / "nowhere").split("train")
    with pytest.raises(DataError, match="it has train, val"):
        Kitti(root).split("test")
    with pytest.raises(DataError, match=r"write kitti\(video=true\), and get data_scene_flow_multiview\.zip"):
        Kitti(root).clips("train")
    with pytest.raises(DataError, match=r"write kitti\(depth=true\), and get data_scene_flow\.zip"):
        Kitti(root).depth("train")
    folder = root / "training"
    (folder / "image_2" / "000161_09.png").unlink()
    with pytest.raises(DataError, match=r"000161_09\.png: no such file; get data_scene_flow_multiview\.zip"):
        Kitti(root, video=True).clips("val")
    (folder / "disp_occ_0" / "000161_10.png").unlink()
    with pytest.raises(DataError, match=r"000161_10\.png: no such file; get data_scene_flow\.zip"):
        Kitti(root, depth=True).depth("val")
    (folder / "calib_cam_to_cam" / "000000.txt").write_text("P_rect_02: 1 2 3")
    with pytest.raises(DataError, match=r"000000\.txt: cannot be read as a calibration of KITTI"):
        Kitti(root, video=True).clips("train")[0]


def test_the_fingerprint_follows_the_files_that_are_used(root: Path) -> None:
    options = [{}, {"video": True}, {"depth": True}]
    before = [Kitti(root, **chosen).fingerprint() for chosen in options]
    assert len(set(before)) == 3
    (root / "training" / "calib_cam_to_cam" / "000199.txt").write_text(CALIBRATION + "\n")
    after = [Kitti(root, **chosen).fingerprint() for chosen in options]
    assert [first == second for first, second in zip(before, after, strict=True)] == [True, False, False]


@pytest.mark.parametrize("number", ["nan", "inf", "0"])
def test_a_calibration_without_finite_numbers_is_refused(root: Path, number: str) -> None:
    (root / "training" / "calib_cam_to_cam" / "000000.txt").write_text(CALIBRATION.replace("7.0e+02", number))
    with pytest.raises(DataError, match=r"000000\.txt: a camera has finite numbers"):
        Kitti(root, depth=True).depth("train")[0]


@pytest.mark.parametrize(
    ("data", "defense", "term"),
    [
        ("kitti(video=true)", "multitask-depth", "photometric"),
        ("kitti(depth=true)", "multitask(tasks=[depth])", "depth"),
    ],
)
def test_a_matrix_trains_on_it(
    root: Path,
    tiny_matrix: Callable[..., Matrix],
    silent: type[Any],
    tmp_path: Path,
    data: str,
    defense: str,
    term: str,
) -> None:
    recipe = {"batch_size": 4, "iterations": 2, "augmentation": {"flip": 0.5, "crop": [16, 24]}}
    runtime = {"data": {"kitti": str(root)}, "device": "cpu"}
    matrix = tiny_matrix(dataset=data, defenses=[defense], transfer=None, recipe=recipe, runtime=runtime)
    cell = prepare.checked_plan(matrix, Store(tmp_path / "store")).trainings[0]
    store = Store(tmp_path / "runs")
    run_training(cell, store, matrix.runtime, torch.device("cpu"), silent())
    assert store.trained(cell.digest)
    assert pd.read_csv(store.train_dir(cell.digest) / "history.csv")[term].gt(0).all()
