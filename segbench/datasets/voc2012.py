"""PASCAL VOC 2012, and its training set enlarged by the Semantic Boundaries Dataset (SBD)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from segbench.datasets.base import dataset
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.label_map import LabelMap
from segbench.datasets.tools.lists import distinct, read_list
from segbench.datasets.tools.pairs import Pair, Pairs
from segbench.errors import DataError

GET_VOC = "get VOCtrainval_11-May-2012.tar at http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
GET_SBD = (
    "get SBD's benchmark.tgz at http://home.bharathh.info/pubs/codes/SBD/download.html, or the folder of masks that "
    "is known as SegmentationClassAug"
)
TRAIN_AUG_COUNT = 10_582
TRAIN_AUG_SHA256 = "855dff350b7f447bf43cb98ea626a32e0d0b3b7c5786e03b2712a21355b635bf"
"""Of the sorted official ids, one a line."""

CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)
LABELS = LabelMap.of(21)


def _colour(label: int) -> tuple[int, int, int]:
    """Return VOC's colour of a label: its bits, three at a time, become the high bits of red, green and blue."""
    channels = [sum((label >> (3 * i + channel) & 1) << (7 - i) for i in range(3)) for channel in range(3)]
    return channels[0], channels[1], channels[2]


@dataset("voc2012")
class Voc2012:
    """PASCAL VOC 2012: 20 classes and background; void borders; train, val and train_aug.

    The split train_aug is VOC train and all of SBD, less VOC val: 10,582 images. Its masks come from
    `SegmentationClassAug` if that folder is there. Otherwise they come from SBD's own .mat files, which
    have no void borders, and VOC's own masks for images of VOC train.

    Args:
        root: folder that holds VOCdevkit (or is it, or is its VOC2012), and for train_aug either
            VOC2012/SegmentationClassAug, or SBD as `sbd`, `SBD` or `benchmark_RELEASE/dataset` beside VOCdevkit.

    Source: Everingham et al. 2010, https://doi.org/10.1007/s11263-009-0275-4;
        Hariharan et al. 2011, https://doi.org/10.1109/ICCV.2011.6126343
    """

    classes = tuple(CLASSES.split())
    palette = tuple(_colour(label) for label in range(21))
    ignore_index = 255
    lengths: ClassVar = {"train": 1464, "val": 1449, "train_aug": TRAIN_AUG_COUNT}
    """Images of the official splits."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def splits(self) -> tuple[str, ...]:
        """Return train and val, and train_aug where masks for it are there."""
        has_aug = (self._voc() / "SegmentationClassAug").is_dir() or self._sbd() is not None
        return ("train", "val", "train_aug") if has_aug else ("train", "val")

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        return Pairs(self._pairs(name), LABELS)

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash the lists and all files of all splits."""
        groups = {name: [path for pair in self._pairs(name) for path in pair[1:]] for name in self.splits}
        return fingerprint_files(groups, "voc2012", verify=verify)

    def _pairs(self, name: str) -> list[Pair]:
        if name == "train_aug":
            return self._train_aug()
        if name not in ("train", "val"):
            raise DataError(f"voc2012 has no split {name!r}; it has train, val and train_aug")
        masks = self._voc() / "SegmentationClass"
        return [self._pair(each, masks / f"{each}.png") for each in self._listed(name)]

    def _train_aug(self) -> list[Pair]:
        folder, sbd = self._voc() / "SegmentationClassAug", self._sbd()
        val = set(self._listed("val"))
        if folder.is_dir():
            names = sorted({path.stem for path in folder.glob("*.png")} - val)
            _check_ids(names, folder)
            return [self._pair(each, folder / f"{each}.png") for each in names]
        if sbd is None:
            raise DataError(
                f"{self.root}: train_aug needs SBD, but there is neither {folder} nor one of "
                f"{', '.join(str(place) for place in self._sbd_places())}; {GET_SBD}"
            )
        train = set(self._listed("train"))
        of_sbd = {each for part in ("train", "val") for each in _ids(sbd / f"{part}.txt", GET_SBD)}
        names = sorted((train | of_sbd) - val)
        _check_ids(names, sbd)
        of_voc = self._voc() / "SegmentationClass"
        masks = {each: of_voc / f"{each}.png" if each in train else sbd / "cls" / f"{each}.mat" for each in names}
        return [self._pair(each, masks[each]) for each in names]

    def _pair(self, name: str, mask: Path) -> Pair:
        return Pair(name, self._voc() / "JPEGImages" / f"{name}.jpg", mask)

    def _listed(self, name: str) -> list[str]:
        return _ids(self._voc() / "ImageSets" / "Segmentation" / f"{name}.txt", GET_VOC)

    def _voc(self) -> Path:
        places = [self.root / "VOCdevkit" / "VOC2012", self.root / "VOC2012", self.root]
        return next((place for place in places if (place / "ImageSets").is_dir()), places[0])

    def _sbd_places(self) -> list[Path]:
        return [self.root / name for name in ("sbd", "SBD", "benchmark_RELEASE/dataset")]

    def _sbd(self) -> Path | None:
        return next((place for place in self._sbd_places() if (place / "cls").is_dir()), None)


def _ids(path: Path, get: str) -> list[str]:
    lines = read_list(path, get)
    for number, line in lines:
        if len(line.split()) != 1:
            raise DataError(f"{path}:{number}: a line names one image, this one is {line!r}")
    return distinct(path, lines)


def _check_ids(names: Sequence[str], source: Path) -> None:
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    if digest != TRAIN_AUG_SHA256:
        raise DataError(
            f"{source}: gives {len(names):,} ids for train_aug, but these are not the official {TRAIN_AUG_COUNT:,}; "
            f"is it complete, and is VOC's val.txt? {GET_SBD}"
        )
