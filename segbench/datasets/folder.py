"""Any images and masks of a user, described by a small `dataset.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from segbench.datasets.base import Size, dataset
from segbench.datasets.tools.described import Described, Wording
from segbench.datasets.tools.description import read_description
from segbench.datasets.tools.pairs import Pairs, checked_size
from segbench.errors import DataError
from segbench.model_zoo.base import Tag

DESCRIPTION = "dataset.yaml"


@dataset("folder")
class Folder:
    """Your own images: a folder with a `dataset.yaml` that says the classes, and where images and masks lie.

    By default they lie in `images/train`, `masks/train`, `images/val` and `masks/val`, and are paired by name without
    extension; masks hold one label index a pixel (grey or palette PNG), or a colour. Patterns of paths, lists of
    samples and what labels mean may be said; a `name` is what tables and `--data` call the data set. The format is in
    docs/data.md.

    Args:
        root: the folder with dataset.yaml.
        size: height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'.
    """

    tag: ClassVar[Tag]
    ignore_index = 255

    def __init__(self, root: Path, *, size: Size | None = None) -> None:
        self.root = Path(root)
        self.description = read_description(self.root / DESCRIPTION)
        if self.description.options:
            raise DataError(f"{self.root / DESCRIPTION}: options are for the data sets of segbench; use splits instead")
        wording = Wording(
            name=str(self.root / DESCRIPTION),
            splits="names",
            missing=f"{DESCRIPTION} says that there is one, see docs/data.md",
            unlisted=f"{DESCRIPTION} names it as the list of a split",
        )
        self.files = Described(
            self.description, self.root, tag=self.tag, wording=wording, size=checked_size(size, "folder")
        )
        self.size = self.files.size
        self.classes = self.files.classes
        self.palette = self.files.palette
        self.lengths = self.files.lengths

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that dataset.yaml names."""
        return self.files.splits

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        return self.files.split(name)

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash what dataset.yaml says, the names in all splits, all files and the size."""
        return self.files.fingerprint(verify=verify)

    def warnings(self) -> tuple[str, ...]:
        """Say which files below images and masks no sample uses."""
        return self.files.warnings()
