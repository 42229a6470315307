"""Any images and masks of a user, described by a small `dataset.yaml`."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segbench.datasets.base import Size, dataset
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.pairs import Pair, Pairs
from segbench.errors import DataError

LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
SUFFIXES = (*LOSSLESS, ".jpg", ".jpeg", ".webp")
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]


class Description(BaseModel):
    """What `dataset.yaml` holds.

    Attributes:
        classes: names of the labels 0..C-1.
        palette: a colour per class; by default colours far from one another.
        ignore_index: label of void pixels in the files; it becomes 255.
        splits: names of splits that are subfolders of images and masks, or a list file for each name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=255)]
    palette: tuple[Colour, ...] | None = None
    ignore_index: Byte = 255
    splits: tuple[str, ...] | dict[str, str] = ("train", "val")

    @model_validator(mode="after")
    def _consistent(self) -> Description:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have the same name")
        if self.palette is not None and len(self.palette) != len(self.classes):
            raise ValueError(f"palette has {len(self.palette)} colours for {len(self.classes)} classes")
        if self.ignore_index < len(self.classes):
            raise ValueError(f"ignore_index {self.ignore_index} is the label of a class; use one above, such as 255")
        return self


@dataset("folder")
class Folder:
    """Your own images: folders `images` and `masks` and a `dataset.yaml` with the class names.

    Images and masks are paired by name without extension; masks hold one label index a pixel (8-bit grey or
    palette PNG). Splits are subfolders (`images/train`, `masks/train`) or lists of names. The format is in
    docs/data.md.

    Args:
        root: the folder with dataset.yaml.
        size: height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'.
    """

    ignore_index = 255

    def __init__(self, root: Path, *, size: Size | None = None) -> None:
        self.root = Path(root)
        self.size = size if size is None else (size[0], size[1])
        self.description = _read(self.root / "dataset.yaml")
        self.classes = self.description.classes
        self.palette = self.description.palette or _colours(len(self.classes))

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that dataset.yaml names."""
        return tuple(self.description.splits)

    def split(self, name: str) -> Pairs:
        """Return a split; see `Dataset`."""
        labels = {label: label for label in range(len(self.classes))}
        return Pairs(self._pairs(name), {**labels, self.description.ignore_index: self.ignore_index}, self.size)

    def fingerprint(self) -> str:
        """Hash dataset.yaml, the names in all splits, all files and the size."""
        pairs = [(name, pair) for name in self.splits for pair in self._pairs(name)]
        order = [f"{name}/{pair.name}" for name, pair in pairs]
        files = (path for _, pair in pairs for path in pair[1:])
        return fingerprint_files(files, "folder", self.description.model_dump_json(), str(self.size), *order)

    def _pairs(self, name: str) -> list[Pair]:
        splits = self.description.splits
        if name not in splits:
            raise DataError(f"{self.root / 'dataset.yaml'}: no split {name!r}; it names {', '.join(splits)}")
        sub = Path(name) if isinstance(splits, tuple) else Path()
        images = _by_name(self.root / "images" / sub, SUFFIXES)
        masks = _by_name(self.root / "masks" / sub, LOSSLESS)
        names = sorted({*images, *masks}) if isinstance(splits, tuple) else _listed(self.root / splits[name])
        # A name without its file still makes a pair, so that reading it says which file is missing.
        return [
            Pair(
                each,
                images.get(each, self.root / "images" / sub / f"{each}.png"),
                masks.get(each, self.root / "masks" / sub / f"{each}.png"),
            )
            for each in names
        ]


def _read(path: Path) -> Description:
    try:
        return Description.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot be read; a folder of your own images needs it, see docs/data.md") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path}: is no YAML ({error})") from error
    except ValidationError as error:
        problems = [f"{path}: {_where(e['loc'])}{e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        raise DataError("\n".join(dict.fromkeys(problems))) from error


def _where(keys: tuple[int | str, ...]) -> str:
    return ".".join(map(str, keys)) + ": " if keys else ""


def _by_name(folder: Path, allowed: tuple[str, ...]) -> dict[str, Path]:
    """Return the images of a folder and its subfolders by their path without extension."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; dataset.yaml says that there is one, see docs/data.md")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.suffix.lower() not in allowed:
            raise DataError(f"{path}: this format changes labels when it compresses; save masks as PNG")
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{path}: {found[name].name} has the same name; keep one")
        found[name] = path
    return found


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read; dataset.yaml names it as the list of a split") from error
    return [line.strip() for line in lines if line.strip()]


def _colours(count: int) -> tuple[Colour, ...]:
    """Return colours around the wheel, with two brightnesses in turn."""
    colours = (colorsys.hsv_to_rgb(i / count, 0.65, 0.95 if i % 2 else 0.7) for i in range(count))
    return tuple((round(r * 255), round(g * 255), round(b * 255)) for r, g, b in colours)
