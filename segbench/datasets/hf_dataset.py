"""Any data set of Hugging Face's library `datasets` with an image and a mask column, in a local folder."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segbench.datasets.base import Sample, Size, dataset
from segbench.datasets.tools.description import read_description
from segbench.datasets.tools.hashes import fingerprint_files
from segbench.datasets.tools.images import Held
from segbench.datasets.tools.label_map import LARGEST, LAST, LabelMap
from segbench.datasets.tools.pairs import checked_size, read_sample
from segbench.errors import DataError
from segbench.files import cache_folder

DESCRIPTION = "dataset.yaml"
TABLES = (".parquet", ".arrow")
GRIDS = ("Array2D", "List", "Sequence", "list")
"""Types of a column that may hold tables of numbers; versions of the library name lists differently."""
SPLITS = {"validation": "val", "valid": "val", "dev": "val"}
"""What the library calls splits otherwise."""

_SHARD = re.compile(r"(?P<split>[A-Za-z_]+?)[-_]?\d*(-of-\d+)?(-[0-9a-f]{16})?")


@dataset("hf-dataset")
class HfDataset:
    """A data set of Hugging Face's `datasets` in a folder: what `save_to_disk` wrote, or parquet or arrow files.

    The folder also holds a `dataset.yaml` with the classes and what labels mean, as for `folder`; where files lie it
    need not say. Files of tables are named by their split, such as `train-00000-of-00002.parquet`; validation is
    "val" here. Nothing is downloaded, no code of a data set is run, and images are decoded one at a time. Parquet is
    written to the cache folder as arrow once.

    Args:
        root: the folder.
        image: column of the images.
        mask: column of the masks, images or tables of whole numbers, of one label a pixel.
        size: height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'.

    Source: Lhoest et al. 2021, https://arxiv.org/abs/2109.02846
    """

    ignore_index = 255

    def __init__(self, root: Path, *, image: str = "image", mask: str = "annotation", size: Size | None = None) -> None:
        self.root = Path(root)
        self.columns = (image, mask)
        self.size = checked_size(size, "hf-dataset")
        self.description = read_description(self.root / DESCRIPTION)
        self.classes = self.description.classes
        self.palette = self.description.colours
        self.lengths = self.description.lengths
        self._files = _files(self.root)

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that there are files of."""
        return tuple(self._files)

    def split(self, name: str) -> Rows:
        """Return a split; see `Dataset`."""
        if name not in self._files:
            raise DataError(f"{self.root}: no split {name!r}; it has {', '.join(self._files)}")
        table = _opened(self._files[name])
        for column in self.columns:
            if column not in table.column_names:
                raise DataError(
                    f"{self.root}: there is no column {column!r} in split {name!r}; it has "
                    f"{', '.join(table.column_names)}: name those of images and masks with the options image and mask"
                )
        where = f"{self.root}, split {name!r}"
        return Rows(table, self.columns, where, self.description.label_map(), self.size)

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash the files of all splits, what dataset.yaml says, and the options."""
        labels = self.description.label_map()
        meaning = [sorted(labels.meaning.items()), labels.colours]
        parts = ("hf-dataset", self.classes, self.palette, meaning, self.size, self.columns)
        return fingerprint_files(self._files, *parts, verify=verify)


class Rows:
    """A split in a table; see `segbench.datasets.base.Split`.

    Args:
        table: the library's data set.
        columns: of images and masks.
        where: what errors name.
        labels: what the values in masks mean.
        size: (height, width) to resize to.
    """

    def __init__(self, table: Any, columns: tuple[str, str], where: str, labels: LabelMap, size: Size | None) -> None:
        import datasets

        for column in dict.fromkeys(columns):
            kind = type(table.features[column]).__name__
            if kind == "Image":
                table = table.cast_column(column, datasets.Image(decode=False))
            elif column != columns[1] or kind not in GRIDS:
                raise DataError(f"{where}: column {column!r} holds no images but {kind}; cast it to datasets.Image()")
        self.table = table.select_columns(list(dict.fromkeys(columns)))
        self.columns = columns
        self.where = where
        self.labels = labels
        self.size = size

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = index % len(self)
        row = self.table[number]
        image, mask = (self._held(row[column], f"{self.where}, row {number}, {column}") for column in self.columns)
        return read_sample(f"{number:06d}", image, mask, self.labels, self.size)

    def _held(self, cell: Any, name: str) -> Held:
        content = _as_png(cell, name) if isinstance(cell, list) else cell.get("bytes") if cell is not None else None
        if not isinstance(content, bytes):
            raise DataError(f"{name}: holds no image, or the path of one; embed images before you save the data set")
        return Held(name, content)


def _as_png(rows: list[Any], name: str) -> bytes:
    """Return a table of labels as a PNG of 16 bits, in which -1 becomes the largest value.

    Raises:
        DataError: it is no table of whole numbers from -1 to 65535.
    """
    try:
        values = np.asarray(rows)
    except ValueError:  # rows of several lengths
        values = np.empty(0)
    if (
        values.ndim != 2
        or not values.size
        or values.dtype.kind not in "iu"
        or values.min() < LAST
        or values.max() > LARGEST
    ):
        raise DataError(f"{name}: holds no table (height, width) of whole numbers from {LAST} to {LARGEST}")
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(file, "PNG")
    return file.getvalue()


def _opened(files: list[Path]) -> Any:
    """Open the tables of a split, without reading them into memory."""
    try:
        import datasets
    except ImportError as error:
        raise DataError("hf-dataset needs the library datasets: pip install 'segbench[hf]'") from error
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    names = [str(path) for path in files]
    try:
        if files[0].suffix == ".arrow":
            return datasets.concatenate_datasets([datasets.Dataset.from_file(name) for name in names])
        return datasets.Dataset.from_parquet(names, cache_dir=str(cache_folder() / "datasets"))
    except Exception as error:  # the library raises anything for damaged files
        reason = " ".join(str(error.__cause__ or error).split())[:300] or type(error).__name__
        raise DataError(f"{files[0]}: cannot be read as a table of images ({reason})") from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _files(root: Path) -> dict[str, list[Path]]:
    """Return the tables of each split, in the order of their names.

    Raises:
        DataError: there are none.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(each for each in root.rglob("*") if each.suffix in TABLES and each.is_file()):
        # `save_to_disk` writes a folder for each split, and cache files of the library lie beside the tables.
        parts = path.relative_to(root).parts
        if path.name.startswith("cache-") or any(part.startswith(".") for part in parts):
            continue
        folder = path.parent.name if path.parent != root else ""
        inside = (path.parent / "state.json").is_file()
        match = _SHARD.fullmatch(path.stem)
        named = match["split"] if match is not None else path.stem
        split = (folder or "val") if inside or path.stem.isdecimal() else named
        found.setdefault(SPLITS.get(split, split), []).append(path)
    if not found:
        raise DataError(f"{root}: holds no {' or '.join(TABLES)} file; save the data set there with save_to_disk")
    for name, paths in found.items():
        folders = sorted({str(path.parent) for path in paths})
        if len(folders) > 1:
            raise DataError(f"{root}: split {name!r} lies in {folders[0]} and {folders[1]}; name one of them")
    mixed = [name for name, paths in found.items() if len({path.suffix for path in paths}) > 1]
    if mixed:
        raise DataError(f"{root}: split {mixed[0]!r} has parquet and arrow files; keep one kind")
    return found
