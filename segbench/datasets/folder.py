"""Any images and masks of a user, described by a small `dataset.yaml`."""

from __future__ import annotations

import colorsys
import os
from pathlib import Path

from segbench.datasets.base import Size, dataset
from segbench.datasets.tools.description import Colour, Description, read_description
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.images import LOSSLESS, SUFFIXES
from segbench.datasets.tools.listing import by_name, left_out
from segbench.datasets.tools.lists import distinct, plain, read_list
from segbench.datasets.tools.pairs import Pair, Pairs, checked_size
from segbench.errors import DataError


@dataset("folder")
class Folder:
    """Your own images: folders `images` and `masks` and a `dataset.yaml` with the class names.

    Images and masks are paired by name without extension; masks hold one label index a pixel (grey or palette
    PNG), or a colour. Splits are subfolders (`images/train`, `masks/train`) or lists of names. The format is in
    docs/data.md.

    Args:
        root: the folder with dataset.yaml.
        size: height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'.
    """

    ignore_index = 255

    def __init__(self, root: Path, *, size: Size | None = None) -> None:
        self.root = Path(root)
        self.size = checked_size(size, "folder")
        self.description = read_description(self.root / "dataset.yaml")
        self.classes = self.description.classes
        self.palette = _palette(self.description)

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that dataset.yaml names."""
        return tuple(self.description.splits)

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        return Pairs(self._pairs(name), self.description.label_map(), self.size)

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash what dataset.yaml says, the names in all splits, all files and the size."""
        pairs = {name: self._pairs(name) for name in self.splits}
        names = {name: [pair.name for pair in listed] for name, listed in pairs.items()}
        files = {name: [path for pair in listed for path in pair[1:]] for name, listed in pairs.items()}
        labels = self.description.label_map()
        meaning = [sorted(labels.meaning.items()), labels.colours]
        return fingerprint_files(files, "folder", self.classes, self.palette, meaning, self.size, names, verify=verify)

    def warnings(self) -> tuple[str, ...]:
        """Say which files below images and masks no sample uses."""
        pairs = [pair for name in self.splits for pair in self._pairs(name)]
        used = [path for pair in pairs for path in pair[1:]]
        return tuple(text for kind in ("images", "masks") for text in left_out(self.root / kind, used))

    def _pairs(self, name: str) -> list[Pair]:
        splits = self.description.splits
        if name not in splits:
            raise DataError(f"{self.root / 'dataset.yaml'}: no split {name!r}; it names {', '.join(splits)}")
        sub = Path(name) if isinstance(splits, tuple) else Path()
        images = self._found("images", sub, SUFFIXES)
        masks = self._found("masks", sub, LOSSLESS)
        names = sorted({*images, *masks}) if isinstance(splits, tuple) else self._listed(splits[name], images, masks)
        # A name without its file still makes a pair, so that reading it says which file is missing.
        return [
            Pair(
                each,
                images.get(each, self.root / "images" / sub / f"{each}.png"),
                masks.get(each, self.root / "masks" / sub / f"{each}.png"),
            )
            for each in names
        ]

    def _found(self, kind: str, sub: Path, allowed: tuple[str, ...]) -> dict[str, Path]:
        folder = self.root / kind / sub
        if not os.path.isdir(folder):
            raise DataError(f"{folder}: no such folder; dataset.yaml says that there is one, see docs/data.md")
        return by_name(folder, allowed)

    def _listed(self, file: str, images: dict[str, Path], masks: dict[str, Path]) -> list[str]:
        """Return the samples that a list names, with or without an ending."""

        def sample(line: str) -> str:
            name = plain(line)
            known = name in images or name in masks or not name.lower().endswith(SUFFIXES)
            return name if known else name.rpartition(".")[0]

        path = self.root / file
        lines = read_list(path, "dataset.yaml names it as the list of a split")
        for number, line in lines:
            if plain(line).startswith("/") or ".." in plain(line).split("/"):
                raise DataError(f"{path}:{number}: {line!r} leads out of the folder; name samples as below 'images'")
        return distinct(path, lines, sample)


def _palette(description: Description) -> tuple[Colour, ...]:
    """Return a colour for each class: those given, or colours around the wheel, with two brightnesses in turn."""
    if description.palette is not None:
        return description.palette
    if description.colors is not None:
        return tuple(description.colors[name][0] for name in description.classes)
    count = len(description.classes)
    colours = (colorsys.hsv_to_rgb(i / count, 0.65, 0.95 if i % 2 else 0.7) for i in range(count))
    return tuple((round(r * 255), round(g * 255), round(b * 255)) for r, g, b in colours)
