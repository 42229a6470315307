from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segbench.datasets.cityscapes import Cityscapes
from segbench.errors import DataError

Write = Callable[..., None]


@pytest.fixture
def root(tmp_path: Path, write: Write) -> Path:
    for split, city in (("train", "ulm"), ("train", "bonn"), ("val", "jena")):
        name = f"{city}_000000_000019"
        write(tmp_path / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", np.zeros((4, 9, 3)))
        write(tmp_path / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", np.arange(36).reshape(4, 9) % 34)
    return tmp_path


def test_label_ids_become_train_ids(root: Path) -> None:
    mask = Cityscapes(root).split("val")[0].mask.flatten().tolist()
    # From the official table of labels: road 7, sidewalk 8, building 11, sky 23, rider 25, bicycle 33.
    assert [mask[label] for label in (7, 8, 11, 23, 25, 33)] == [0, 1, 2, 10, 12, 18]
    assert sorted(label for label in mask[:34] if label != 255) == list(range(19))
    assert [mask[label] for label in (0, 1, 6, 9, 10, 14, 18, 29, 30)] == [255] * 9


def test_label_train_ids_are_taken_where_all_are_there(root: Path, write: Write) -> None:
    for city in ("ulm", "bonn"):
        assert 7 in np.arange(36).reshape(4, 9)
        path = root / "gtFine" / "train" / city / f"{city}_000000_000019_gtFine_labelTrainIds.png"
        write(path, np.full((4, 9), 18))
        mask = Cityscapes(root).split("train")[1 if city == "ulm" else 0].mask
        assert (mask == 18).all() == (city == "bonn")
    assert (Cityscapes(root).split("train")[1].mask == 18).all()


def test_an_id_outside_the_map_is_an_error_that_names_the_file(root: Path, write: Write) -> None:
    write(root / "gtFine" / "val" / "jena" / "jena_000000_000019_gtFine_labelIds.png", np.full((4, 9), 40))
    with pytest.raises(DataError, match=r"jena_000000_000019_gtFine_labelIds\.png: mask holds label 40"):
        Cityscapes(root).split("val")[0]


def test_samples_come_in_the_order_of_their_names(root: Path) -> None:
    split = Cityscapes(root, size=(2, 5)).split("train")
    assert [split[index].name for index in range(2)] == ["bonn_000000_000019", "ulm_000000_000019"]
    assert split[0].image.shape == (3, 2, 5)


def test_missing_files_say_which_and_where_to_get_them(root: Path, tmp_path: Path) -> None:
    (root / "gtFine" / "val" / "jena" / "jena_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"jena_000000_000019_gtFine_labelIds\.png: no such file"):
        Cityscapes(root).split("val")[0]
    with pytest.raises(DataError, match=r"leftImg8bit.train: no such folder.*get leftImg8bit_trainvaltest"):
        Cityscapes(tmp_path / "nowhere").split("train")
    with pytest.raises(DataError, match="it has train, val"):
        Cityscapes(root).split("test")


@pytest.fixture
def video_root(root: Path, write: Write) -> Path:
    """The files of clips and disparities; jena's labelled frame is not the 20th of a snippet that starts at 0."""
    jena = root / "leftImg8bit" / "val" / "jena" / "jena_000000_000019_leftImg8bit.png"
    jena.rename(jena.with_name("jena_000001_000142_leftImg8bit.png"))
    mask = root / "gtFine" / "val" / "jena" / "jena_000000_000019_gtFine_labelIds.png"
    mask.rename(mask.with_name("jena_000001_000142_gtFine_labelIds.png"))
    for split, city, place, frame in (
        ("train", "ulm", 0, 19), ("train", "bonn", 0, 19), ("val", "jena", 1, 142),
    ):  # fmt: skip
        name = f"{city}_{place:06d}"
        for step in (-1, 1):
            path = root / "leftImg8bit_sequence" / split / city / f"{name}_{frame + step:06d}_leftImg8bit.png"
            write(path, np.full((4, 9, 3), 100 + 10 * step))
        write(root / "disparity" / split / city / f"{name}_{frame:06d}_disparity.png", np.full((4, 9), 513), bits=16)
        camera = root / "camera" / split / city / f"{name}_{frame:06d}_camera.json"
        camera.parent.mkdir(parents=True, exist_ok=True)
        intrinsic = {"fx": 20.0, "fy": 21.0, "u0": 4.0, "v0": 1.5}
        camera.write_text(json.dumps({"extrinsic": {"baseline": 0.2}, "intrinsic": intrinsic}))
    return root


def test_a_clip_is_a_labelled_image_with_its_neighbours(video_root: Path) -> None:
    data = Cityscapes(video_root, video=True)
    assert (len(data.clips("train")), len(data.clips("val"))) == (2, 1)
    frames, intrinsics = data.clips("val")[0]
    assert frames.shape == (3, 3, 4, 9)
    torch.testing.assert_close(frames.amax((1, 2, 3)) * 255, torch.tensor([90.0, 0, 110]))
    assert torch.equal(intrinsics, torch.tensor([[20.0, 0, 4], [0, 21, 1.5], [0, 0, 1]]))


def test_depth_is_baseline_times_focal_length_over_disparity(video_root: Path) -> None:
    depth = Cityscapes(video_root, depth=True).depth("train")[1]
    torch.testing.assert_close(depth, torch.full((4, 9), 0.2 * 20 / ((513 - 1) / 256)))
    assert Cityscapes(video_root, depth=True, size=(2, 3)).depth("train")[1].shape == (2, 3)


def test_video_and_depth_are_options_and_say_what_is_missing(video_root: Path) -> None:
    with pytest.raises(DataError, match=r"write cityscapes\(video=true\), and get leftImg8bit_sequence"):
        Cityscapes(video_root).clips("train")
    with pytest.raises(DataError, match=r"write cityscapes\(depth=true\), and get disparity"):
        Cityscapes(video_root).depth("train")
    (video_root / "camera" / "train" / "ulm" / "ulm_000000_000019_camera.json").write_text("{}")
    with pytest.raises(DataError, match=r"ulm_000000_000019_camera\.json: cannot be read as a camera"):
        Cityscapes(video_root, video=True).clips("train")[1]
    (video_root / "leftImg8bit_sequence" / "train" / "ulm" / "ulm_000000_000020_leftImg8bit.png").unlink()
    with pytest.raises(DataError, match=r"ulm_000000_000020_leftImg8bit\.png: no such file; get leftImg8bit_sequence"):
        Cityscapes(video_root, video=True).clips("train")
    (video_root / "disparity" / "val" / "jena" / "jena_000001_000142_disparity.png").unlink()
    with pytest.raises(DataError, match=r"jena_000001_000142_disparity\.png: no such file; get disparity"):
        Cityscapes(video_root, depth=True).depth("val")


def test_a_clip_needs_the_number_of_its_frame(video_root: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        for file in (video_root / kind / "val").glob("*/*"):
            file.rename(file.with_name(file.name.replace("000142", "crossing")))
    assert len(Cityscapes(video_root).split("val")) == 1
    with pytest.raises(DataError, match=r"jena_000001_crossing_leftImg8bit\.png: its name does not end in the frame's"):
        Cityscapes(video_root, video=True).clips("val")


def test_the_fingerprint_follows_the_files_that_are_used(video_root: Path, write: Write) -> None:
    options = [{}, {"video": True}, {"depth": True}, {"video": True, "depth": True}]
    before = [Cityscapes(video_root, **chosen).fingerprint() for chosen in options]
    assert len(set(before)) == 4
    frame = video_root / "leftImg8bit_sequence" / "train" / "ulm" / "ulm_000000_000018_leftImg8bit.png"
    write(frame, np.full((4, 9, 3), 7))
    after = [Cityscapes(video_root, **chosen).fingerprint() for chosen in options]
    assert [first == second for first, second in zip(before, after, strict=True)] == [True, False, True, False]


def test_the_fingerprint_holds_the_split_of_every_file(root: Path) -> None:
    before = Cityscapes(root).fingerprint()
    for kind in ("leftImg8bit", "gtFine"):
        (root / kind / "train" / "ulm").rename(root / kind / "val" / "ulm")
    assert len(Cityscapes(root).split("val")) == 2
    assert Cityscapes(root).fingerprint() != before


def test_files_among_the_images_that_are_none_are_named(root: Path) -> None:
    assert Cityscapes(root).warnings() == ()
    (root / "leftImg8bit" / "val" / "jena" / "jena_000000_000020_leftImg8bit.jpg").touch()
    assert Cityscapes(root).warnings()[0].startswith(f"{root / 'leftImg8bit' / 'val'}: 1 file (jena/jena_000000_000020")


def test_the_real_images_load(real_data: Path) -> None:
    data = Cityscapes(real_data / "cityscapes-sample", size=(128, 256))
    assert (len(data.split("train")), len(data.split("val"))) == (2, 1)
    mask = data.split("val")[0].mask
    assert mask.shape == (128, 256)
    # More than a third of the frame is road.
    assert (mask == 0).float().mean() > 0.33
    assert len(data.classes) == len(data.palette) == 19
