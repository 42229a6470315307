"""Cityscapes, fine annotations."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from segbench.datasets.base import Size, dataset
from segbench.datasets.files import Pair, Pairs
from segbench.datasets.hashes import fingerprint_files
from segbench.errors import DataError

GET = "get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip at https://www.cityscapes-dataset.com/downloads/"
SPLITS = ("train", "val")
TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Official label id of every class; the other ids, 0 to 33, are void."""

LABEL_IDS = {**{label: 255 for label in (*range(34), 255)}, **{label: k for k, label in enumerate(TRAIN_IDS)}}
LABEL_TRAIN_IDS = {**{label: label for label in range(19)}, 255: 255}


@dataset("cityscapes")
class Cityscapes:
    """Cityscapes: 19 classes of street scenes, 2048 x 1024, fine annotations of train and val.

    Masks are `labelIds` files mapped to the 19 train ids; or `labelTrainIds` files, where a split has one
    for every image.

    Args:
        root: folder that holds leftImg8bit and gtFine.
        size: height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'.

    Source: Cordts et al. 2016, https://arxiv.org/abs/1604.01685
    """

    classes = (
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    )
    palette = (
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    )
    ignore_index = 255
    splits = SPLITS
    lengths: ClassVar = {"train": 2975, "val": 500}
    """Images of the official splits."""

    def __init__(self, root: Path, *, size: Size | None = None) -> None:
        self.root = Path(root)
        self.size = size if size is None else (size[0], size[1])

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        pairs, labels = self._pairs(name)
        return Pairs(pairs, labels, self.size)

    def fingerprint(self) -> str:
        """Hash all files of both splits and the size."""
        pairs = [pair for name in SPLITS for pair in self._pairs(name)[0]]
        return fingerprint_files((path for pair in pairs for path in pair[1:]), "cityscapes", str(self.size))

    def _pairs(self, name: str) -> tuple[list[Pair], dict[int, int]]:
        if name not in SPLITS:
            raise DataError(f"cityscapes has no split {name!r}; it has {', '.join(SPLITS)}")
        folder = self.root / "leftImg8bit" / name
        images = sorted(folder.glob("*/*_leftImg8bit.png"))
        if not images:
            raise DataError(f"{folder}: no such folder, or no <city>/*_leftImg8bit.png in it; {GET}")
        mapped = [self._mask(image, "labelTrainIds") for image in images]
        has_train_ids = all(mask.is_file() for mask in mapped)
        masks = mapped if has_train_ids else [self._mask(image, "labelIds") for image in images]
        pairs = [
            Pair(image.stem.removesuffix("_leftImg8bit"), image, mask)
            for image, mask in zip(images, masks, strict=True)
        ]
        return pairs, LABEL_TRAIN_IDS if has_train_ids else LABEL_IDS

    def _mask(self, image: Path, kind: str) -> Path:
        """Return where the mask of an image is: the same split and city, below gtFine."""
        frame = image.stem.removesuffix("_leftImg8bit")
        return self.root / "gtFine" / image.parent.parent.name / image.parent.name / f"{frame}_gtFine_{kind}.png"
