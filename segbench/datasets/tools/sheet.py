"""A picture of a dataset: images beside their coloured masks, and the names of the classes below."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segbench.datasets.base import Dataset, Sample
from segbench.errors import DataError

WHITE = (255, 255, 255)
GAP = 4
SWATCH = 16
"""Side of a class's square in the legend, in pixels; also the height of its row."""


def contact_sheet(dataset: Dataset, path: Path, *, split: str | None = None, count: int = 12, side: int = 240) -> None:
    """Write a PNG of images beside their coloured masks, with the colours and names of the classes below.

    Args:
        dataset: what to show.
        path: file to write.
        split: name of the split; by default "val", or the first where there is none of this name.
        count: number of samples, taken at even distances.
        side: length of the longer side of a picture, in pixels.

    Raises:
        DataError: a sample cannot be read, or the file cannot be written.
    """
    name = split or ("val" if "val" in dataset.splits else dataset.splits[0])
    samples = dataset.split(name)
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
    palette = np.full((256, 3), 255, np.uint8)
    palette[: len(dataset.palette)] = dataset.palette
    tiles = [_tile(samples[index], palette, side) for index in chosen]
    columns = min(3, len(tiles))
    rows = [_beside(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    width = max(row.width for row in rows)
    sheet = _below([*rows, _legend([*zip(dataset.classes, dataset.palette, strict=True), ("void", WHITE)], width)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def _legend(classes: Iterable[tuple[str, tuple[int, int, int]]], width: int) -> Image.Image:
    """Draw a square of its colour before the name of every class, in as many rows as the width needs."""
    font = ImageFont.load_default()
    entries = [(_writable(name, font), colour) for name, colour in classes]
    lengths = [SWATCH + 3 * GAP + round(font.getlength(name)) for name, _ in entries]
    places, left, top = [], 0, 0
    for length in lengths:
        if left and left + length > width:
            left, top = 0, top + SWATCH + GAP
        places.append((left, top))
        left += length
    legend = Image.new("RGB", (max(width, *lengths), top + SWATCH + GAP), WHITE)
    draw = ImageDraw.Draw(legend)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        draw.rectangle((left, top, left + SWATCH - 1, top + SWATCH - 1), fill=colour, outline=(0, 0, 0))
        draw.text((left + SWATCH + GAP, top + SWATCH // 2), name, fill=(0, 0, 0), font=font, anchor=_anchor(font))
    return legend


def _anchor(font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str | None:
    return "lm" if isinstance(font, ImageFont.FreeTypeFont) else None


def _writable(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Return a name in letters that a font has: the simple one has those of Latin-1."""
    plain = " ".join(name.split())
    return plain if isinstance(font, ImageFont.FreeTypeFont) else plain.encode("latin-1", "replace").decode("latin-1")


def _beside(tiles: list[Image.Image]) -> Image.Image:
    row = Image.new("RGB", (sum(tile.width for tile in tiles), max(tile.height for tile in tiles)), WHITE)
    left = 0
    for tile in tiles:
        row.paste(tile, (left, 0))
        left += tile.width
    return row


def _below(rows: list[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), WHITE)
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    return whole


def _tile(sample: Sample, palette: NDArray[np.uint8], side: int) -> Image.Image:
    image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    mask = Image.fromarray(palette[sample.mask.numpy()])
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile = Image.new("RGB", (2 * size[0] + 8, size[1] + 8), "white")
    tile.paste(image.resize(size), (0, 0))
    tile.paste(mask.resize(size, Image.Resampling.NEAREST), (size[0] + 2, 0))
    return tile
