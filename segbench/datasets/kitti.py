"""KITTI 2015: semantic benchmark, with the clips and disparities of the scene flow benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from segbench.datasets.base import Size, dataset
from segbench.datasets.cityscapes import LABEL_IDS, Cityscapes
from segbench.datasets.tools.frames import Camera, ClipFiles, DepthFiles, FileClips, FileDepth, checked_camera, require
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.pairs import Pair, Pairs, checked_size
from segbench.errors import DataError

SITE = "https://www.cvlibs.net/datasets/kitti/"
GET = f"get data_semantics.zip at {SITE}eval_semseg.php"
GET_VIDEO = f"get data_scene_flow_multiview.zip and data_scene_flow_calib.zip at {SITE}eval_scene_flow.php"
GET_DEPTH = f"get data_scene_flow.zip and data_scene_flow_calib.zip at {SITE}eval_scene_flow.php"
SPLITS = ("train", "val")
LENGTH = 200
TRAINED = 160
"""Images of the split that is trained on: the first ones. Neighbouring numbers often show one street."""


@dataset("kitti")
class Kitti:
    """KITTI 2015: the 200 labelled images of street scenes, 1242 x 375 and thereabouts, with Cityscapes' 19 classes.

    There is no official split: images 0 to 159 are "train", 160 to 199 are "val". A clip is a labelled image (_10)
    with the frames before (_09) and after (_11) it.

    Args:
        root: folder that holds training, into which the benchmark's archives were unpacked.
        size: height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'.
        video: offer clips, from the multi-view extension and calib_cam_to_cam.
        depth: offer the depth of labelled images, from disp_occ_0 and calib_cam_to_cam.

    Source: Alhaija et al. 2018, https://arxiv.org/abs/1708.01566; Menze and Geiger 2015, "Object scene flow for
        autonomous vehicles".
    """

    classes = Cityscapes.classes
    palette = Cityscapes.palette
    ignore_index = 255
    splits = SPLITS
    lengths: ClassVar = {"train": TRAINED, "val": LENGTH - TRAINED}

    def __init__(self, root: Path, *, size: Size | None = None, video: bool = False, depth: bool = False) -> None:
        self.root = Path(root)
        self.folder = self.root / "training"
        self.size = checked_size(size, "kitti")
        self.video = video
        self.has_depth = depth

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        scenes = self._scenes(name)
        pairs = [Pair(scene, self._frame(scene, 10), self.folder / "semantic" / f"{scene}_10.png") for scene in scenes]
        return Pairs(pairs, LABEL_IDS, self.size)

    def clips(self, split: str) -> FileClips:
        """Return the clips of a split; see `OffersClips`."""
        if not self.video:
            raise DataError(f"kitti has video as an option: write kitti(video=true), and {GET_VIDEO}")
        files = []
        for scene in self._scenes(split):
            before, itself, after = (self._frame(scene, number) for number in (9, 10, 11))
            files.append(ClipFiles((before, itself, after), self._camera(scene)))
        clips = FileClips(files, read_camera, self.size)
        require(clips.paths, GET_VIDEO)
        return clips

    def depth(self, split: str) -> FileDepth:
        """Return the depth of a split; see `OffersDepth`."""
        if not self.has_depth:
            raise DataError(f"kitti has depth as an option: write kitti(depth=true), and {GET_DEPTH}")
        files = [
            DepthFiles(self.folder / "disp_occ_0" / f"{scene}_10.png", self._camera(scene))
            for scene in self._scenes(split)
        ]
        maps = FileDepth(files, read_camera, 0, self.size)
        require(maps.paths, GET_DEPTH)
        return maps

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash all files of both splits and the size."""
        groups: dict[str, list[Path]] = {}
        for name in SPLITS:
            groups[name] = [path for pair in self.split(name).pairs for path in pair[1:]]
            groups[f"clips of {name}"] = self.clips(name).paths if self.video else []
            groups[f"depth of {name}"] = self.depth(name).paths if self.has_depth else []
        return fingerprint_files(groups, "kitti", self.size, self.video, self.has_depth, verify=verify)

    def _scenes(self, split: str) -> list[str]:
        """Return the numbers of a split's images."""
        if split not in SPLITS:
            raise DataError(f"kitti has no split {split!r}; it has {', '.join(SPLITS)}")
        folder = self.folder / "semantic"
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; {GET}")
        numbers = range(TRAINED) if split == "train" else range(TRAINED, LENGTH)
        return [f"{number:06d}" for number in numbers]

    def _frame(self, scene: str, number: int) -> Path:
        return self.folder / "image_2" / f"{scene}_{number:02d}.png"

    def _camera(self, scene: str) -> Path:
        return self.folder / "calib_cam_to_cam" / f"{scene}.txt"


def read_camera(path: Path) -> Camera:
    """Read the colour cameras of a calibration file of KITTI.

    Raises:
        DataError: it is none.
    """
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        left, right = (
            torch.tensor([float(number) for number in lines[name].split()]).view(3, 4)
            for name in ("P_rect_02", "P_rect_03")
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as a calibration of KITTI ({error!r})") from error
    return checked_camera(path, left[:, :3].contiguous(), float(left[0, 3] - right[0, 3]))
