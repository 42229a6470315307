"""The reader of every data set that a description describes: image and mask files in a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from segbench.datasets.base import Size
from segbench.datasets.tools.grammar import Description
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.images import LOSSLESS, SUFFIXES
from segbench.datasets.tools.listing import by_name, left_out
from segbench.datasets.tools.lists import distinct, plain, read_list
from segbench.datasets.tools.pairs import Pair, Pairs
from segbench.datasets.tools.patterns import Pattern
from segbench.errors import DataError
from segbench.model_zoo.base import Tag


class Wording(NamedTuple):
    """How errors name a data set.

    Attributes:
        name: the data set, or the file that describes it.
        splits: what precedes the names of its splits.
        missing: the end of a sentence about a folder that is missing.
        unlisted: the end of one about a list that is missing.
    """

    name: str
    splits: str
    missing: str
    unlisted: str


class Described:
    """The files of a data set in a folder, as a description says; see `segbench.datasets.base.Dataset`.

    Args:
        description: what is described.
        root: the folder that the user names.
        tag: kind, name and version of the component.
        wording: how errors name it.
        size: height and width that images (antialiased) and masks (nearest) are resized to; None keeps the files'.
        options: what was chosen of the description's options; None for all.
        official: the splits are official ones, of which some may not be there, and have files beside them.
    """

    ignore_index = 255

    def __init__(
        self,
        description: Description,
        root: Path,
        *,
        tag: Tag,
        wording: Wording,
        size: Size | None = None,
        options: Mapping[str, str | None] | None = None,
        official: bool = False,
    ) -> None:
        within = [root / folder for folder in description.within]
        self.root = next((folder for folder in within if folder.is_dir()), root)
        self.description = description
        self.tag = tag
        self.size = size
        self.options = dict(options or {})
        self.wording = wording
        self.official = official
        self.classes = description.classes
        self.palette = description.colours
        chosen = any(self.options.values())
        self.lengths = {} if chosen else description.lengths

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that the description names; of official ones, those that are there, if any."""
        named = tuple(self.description.splits)
        there = tuple(name for name in named if (self.root / self._place(name)).exists()) if self.official else named
        return there or named

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        return Pairs(self._pairs(name), self.description.label_map(), self.size)

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash what the description says, the names in all splits, all files and the options."""
        pairs = {name: self._pairs(name) for name in self.splits}
        names = {name: [pair.name for pair in listed] for name, listed in pairs.items()}
        files = {name: [path for pair in listed for path in pair[1:]] for name, listed in pairs.items()}
        labels = self.description.label_map()
        meaning = [sorted(labels.meaning.items()), labels.colours]
        options = [self.options] if self.options else []
        parts = (self.tag.name, self.classes, self.palette, meaning, self.size, names, *options)
        return fingerprint_files(files, *parts, verify=verify)

    def warnings(self) -> tuple[str, ...]:
        """Say which files in the folders of images and masks no sample uses; of official splits, their number tells."""
        if self.official:
            return ()
        pairs = [pair for name in self.splits for pair in self._pairs(name)]
        used = [path for pair in pairs for path in pair[1:]]
        folders = dict.fromkeys(self.root / self.description.top(kind) for kind in ("images", "masks"))
        return tuple(text for folder in folders for text in left_out(folder, used))

    def _pairs(self, name: str) -> list[Pair]:
        said = self.description
        if name not in said.splits:
            raise DataError(
                f"{self.wording.name}: no split {name!r}; it {self.wording.splits} {', '.join(self.splits)}"
            )
        image, mask = (said.pattern(kind, name, self.options) for kind in ("images", "masks"))
        images, masks = self._found(image, SUFFIXES), self._found(mask, LOSSLESS)
        if not image.is_folder and not images:
            raise DataError(f"{self.root}: no file is {image.text}; {self.wording.missing}")
        names = self._listed(name, images, masks) if said.lists else sorted({*images, *masks})
        # A name without its file still makes a pair, so that reading it says which file is missing.
        return [
            Pair(
                each,
                images.get(each) or image.path(self.root, each),
                masks.get(each) or mask.path(self.root, each),
            )
            for each in names
        ]

    def _place(self, split: str) -> str:
        """Return the folder of a split's images, or its list."""
        said = self.description
        return said.word(split) if said.lists else said.pattern("images", split, self.options).folder

    def _found(self, pattern: Pattern, allowed: tuple[str, ...]) -> dict[str, Path]:
        folder = self.root / pattern.folder
        if not os.path.isdir(folder):
            raise DataError(f"{folder}: no such folder; {self.wording.missing}")
        return by_name(self.root, pattern, allowed)

    def _listed(self, split: str, images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[str]:
        """Return the samples that the list of a split names, with or without an ending."""

        def sample(line: str) -> str:
            name = plain(line)
            known = name in images or name in masks or not name.lower().endswith(SUFFIXES)
            return name if known else name.rpartition(".")[0]

        path = self.root / self.description.word(split)
        lines = read_list(path, self.wording.unlisted)
        for number, line in lines:
            if plain(line).startswith("/") or ".." in plain(line).split("/"):
                raise DataError(f"{path}:{number}: {line!r} leads out of the folder; name samples as below 'images'")
        return distinct(path, lines, sample)
