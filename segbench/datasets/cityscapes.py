"""Cityscapes, fine annotations."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from segbench.datasets.base import Size, dataset
from segbench.datasets.tools.description import packaged
from segbench.datasets.tools.frames import Camera, ClipFiles, DepthFiles, FileClips, FileDepth, checked_camera, require
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.label_map import LabelMap
from segbench.datasets.tools.listing import left_out
from segbench.datasets.tools.pairs import Pair, Pairs, checked_size
from segbench.documents.strict_json import parse_json
from segbench.documents.text import DocumentError
from segbench.errors import DataError

SITE = "https://www.cityscapes-dataset.com/downloads/"
GET = f"get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip at {SITE}"
GET_VIDEO = f"get leftImg8bit_sequence_trainvaltest.zip and camera_trainvaltest.zip at {SITE}"
GET_DEPTH = f"get disparity_trainvaltest.zip and camera_trainvaltest.zip at {SITE}"
NO_DISPARITY = 1
"""Value of a disparity of 0 in the files."""
LARGEST_CAMERA = 64 << 10
"""Bytes that a camera file has at most."""
SPLITS = ("train", "val")
DESCRIPTION = packaged("cityscapes")
LABEL_IDS = DESCRIPTION.label_map()
"""Of the official ids, 0 to 33, the 19 that are evaluated are classes and the others void."""
LABEL_TRAIN_IDS = LabelMap.of(len(DESCRIPTION.classes))


@dataset("cityscapes")
class Cityscapes:
    """Cityscapes: 19 classes of street scenes, 2048 x 1024, fine annotations of train and val.

    Masks are `labelIds` files mapped to the 19 train ids; or `labelTrainIds` files, where a split has one
    for every image. A clip is a labelled image with its neighbours in the snippet of 30 frames.

    Args:
        root: folder that holds leftImg8bit and gtFine; and leftImg8bit_sequence, disparity and camera as below.
        size: height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'.
        video: offer clips, from leftImg8bit_sequence and camera.
        depth: offer the depth of labelled images, from disparity and camera.

    Source: Cordts et al. 2016, https://arxiv.org/abs/1604.01685
    """

    classes = DESCRIPTION.classes
    palette = DESCRIPTION.colours
    ignore_index = 255
    splits = SPLITS
    lengths: ClassVar = {"train": 2975, "val": 500}
    """Images of the official splits."""

    def __init__(self, root: Path, *, size: Size | None = None, video: bool = False, depth: bool = False) -> None:
        self.root = Path(root)
        self.size = checked_size(size, "cityscapes")
        self.video = video
        self.has_depth = depth

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        pairs, labels = self._pairs(name)
        return Pairs(pairs, labels, self.size)

    def clips(self, split: str) -> FileClips:
        """Return the clips of a split; see `OffersClips`."""
        if not self.video:
            raise DataError(f"cityscapes has video as an option: write cityscapes(video=true), and {GET_VIDEO}")
        files = [self._clip(pair.image) for pair in self._pairs(split)[0]]
        clips = FileClips(files, read_camera, self.size)
        require(clips.paths, GET_VIDEO)
        return clips

    def depth(self, split: str) -> FileDepth:
        """Return the depth of a split; see `OffersDepth`."""
        if not self.has_depth:
            raise DataError(f"cityscapes has depth as an option: write cityscapes(depth=true), and {GET_DEPTH}")
        files = [
            DepthFiles(self._beside(pair.image, "disparity"), self._beside(pair.image, "camera", ".json"))
            for pair in self._pairs(split)[0]
        ]
        maps = FileDepth(files, read_camera, NO_DISPARITY, self.size)
        require(maps.paths, GET_DEPTH)
        return maps

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash all files of both splits and the size."""
        groups: dict[str, list[Path]] = {}
        for name in SPLITS:
            groups[name] = [path for pair in self._pairs(name)[0] for path in pair[1:]]
            groups[f"clips of {name}"] = self.clips(name).paths if self.video else []
            groups[f"depth of {name}"] = self.depth(name).paths if self.has_depth else []
        return fingerprint_files(groups, "cityscapes", self.size, self.video, self.has_depth, verify=verify)

    def warnings(self) -> tuple[str, ...]:
        """Say which files among the images are none."""
        listed = {name: [pair.image for pair in self._pairs(name)[0]] for name in SPLITS}
        folders = {name: self.root / "leftImg8bit" / name for name in SPLITS}
        return tuple(sentence for name in SPLITS for sentence in left_out(folders[name], listed[name]))

    def _pairs(self, name: str) -> tuple[list[Pair], LabelMap]:
        if name not in SPLITS:
            raise DataError(f"cityscapes has no split {name!r}; it has {', '.join(SPLITS)}")
        folder = self.root / "leftImg8bit" / name
        images = sorted(folder.glob("*/*_leftImg8bit.png"))
        if not images:
            raise DataError(f"{folder}: no such folder, or no <city>/*_leftImg8bit.png in it; {GET}")
        mapped = [self._beside(image, "gtFine", "_labelTrainIds.png") for image in images]
        has_train_ids = all(mask.is_file() for mask in mapped)
        masks = mapped if has_train_ids else [self._beside(image, "gtFine", "_labelIds.png") for image in images]
        pairs = [
            Pair(image.stem.removesuffix("_leftImg8bit"), image, mask)
            for image, mask in zip(images, masks, strict=True)
        ]
        return pairs, LABEL_TRAIN_IDS if has_train_ids else LABEL_IDS

    def _clip(self, image: Path) -> ClipFiles:
        """Return the files of the clip around an image, which are numbered through."""
        frame = image.stem.removesuffix("_leftImg8bit")
        place, _, number = frame.rpartition("_")
        if not number.isdecimal():
            raise DataError(f"{image}: its name does not end in the frame's number, by which its neighbours are found")
        folder = self.root / "leftImg8bit_sequence" / image.parent.parent.name / image.parent.name
        before, after = (folder / f"{place}_{int(number) + step:06d}_leftImg8bit.png" for step in (-1, 1))
        return ClipFiles((before, image, after), self._beside(image, "camera", ".json"))

    def _beside(self, image: Path, kind: str, ending: str = ".png") -> Path:
        """Return the file of a kind that belongs to an image: the same split and city, below the kind's folder."""
        frame = image.stem.removesuffix("_leftImg8bit")
        return self.root / kind / image.parent.parent.name / image.parent.name / f"{frame}_{kind}{ending}"


def read_camera(path: Path) -> Camera:
    """Read a camera file of Cityscapes.

    Raises:
        DataError: it is none.
    """
    try:
        content = parse_json(path.read_bytes(), str(path), LARGEST_CAMERA)
        fx, fy, u0, v0 = (float(content["intrinsic"][name]) for name in ("fx", "fy", "u0", "v0"))
        baseline = float(content["extrinsic"]["baseline"])
    except (OSError, ValueError, KeyError, TypeError, DocumentError) as error:
        raise DataError(f"{path}: cannot be read as a camera of Cityscapes ({error!r})") from error
    return checked_camera(path, torch.tensor([[fx, 0, u0], [0, fy, v0], [0, 0, 1]]), baseline * fx)
