"""Figures of single images: image, truth and predictions, clean above attacked (Xu et al. 2021, Figures 1 and 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segbench.reports.evidence import KeptImage
from segbench.reports.figures.base import Figure, new_canvas, plain
from segbench.reports.pictures import AMPLIFIED, Pixels, amplified, coloured, in_8_bit
from segbench.reports.tables.grid import Block, Cell, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MOST_NETWORKS = 5
"""Number of networks in one figure; further networks get further figures."""

LONGEST = 160
"""Pixels of the longer side of a panel; larger images are subsampled."""

LONGEST_CHOSEN = 1024
"""Pixels of the longer side of a panel in a figure of images that were asked for."""

KeptOf = Callable[[str], Sequence[KeptImage]]


class NetworkImages(NamedTuple):
    """The stored images of one network, clean and under the attack, by their index in the split."""

    defense: str
    clean: dict[int, KeptImage]
    attacked: dict[int, KeptImage]


def examples(table: Table, kept: KeptOf, images: Sequence[int] = ()) -> list[Figure]:
    """Return figures with a few images per model, and the predictions of each network on them, clean and attacked.

    The attack is the strongest one, and in further figures each one that has a region, such as a patch.

    Args:
        table: a white-box table.
        kept: digest of an evaluation -> its stored images.
        images: indices of the images to show, in order; by default the best, the median and the worst.
    """
    clean = next((index for index, column in enumerate(table.columns) if column.attack is None), None)
    if clean is None:
        return []
    figures: list[Figure] = []
    for block in table.blocks:
        shown = _strongest(block, clean, table, kept)
        for column, pairs in (shown, *_limited(block, clean, table, kept, shown[0])):
            figures += _of_attack(block.label, table, column, pairs, len(figures), images)
    return figures


def _of_attack(
    model: str, table: Table, column: int, pairs: Sequence[NetworkImages], before: int, images: Sequence[int]
) -> list[Figure]:
    """Return the figures of one model under one attack; `before` counts those that the table has already."""
    shared = _shared(pairs)
    if images:
        chosen = {f"image {index}": index for index in dict.fromkeys(images) if index in shared}
    else:
        chosen = pick({index: fmean(_right(pair.attacked[index]) for pair in pairs) for index in shared})
    if not chosen:
        return []
    figures: list[Figure] = []
    attack = table.columns[column].label
    for start in range(0, len(pairs), MOST_NETWORKS):
        own = pairs[start : start + MOST_NETWORKS]
        figures.append(
            Figure(
                f"{table.name}-examples-{before + len(figures) + 1}",
                f"{table.heading}: {model} on single images, clean and under {attack}",
                _caption(chosen, len(shared), len(pairs), own, asked=bool(images)),
                _alt(chosen, own, model, attack),
                partial(_draw, chosen, own, attack, table.first.classes, LONGEST_CHOSEN if images else LONGEST),
                themed=False,
            )
        )
    return figures


def shared_images(table: Table, kept: KeptOf) -> set[int]:
    """Return the indices of the images that `examples` can show of a table."""
    clean = next((index for index, column in enumerate(table.columns) if column.attack is None), None)
    found: set[int] = set()
    for block in table.blocks if clean is not None else ():
        found |= _shared(_strongest(block, clean or 0, table, kept)[1])
    return found


def _shared(pairs: Sequence[NetworkImages]) -> set[int]:
    """Return the indices of the images that all networks have, clean and attacked."""
    return set.intersection(*({*p.clean} & {*p.attacked} for p in pairs)) if pairs else set()


def pick(accuracy: dict[int, float]) -> dict[str, int]:
    """Return the images of the best, the median and the worst accuracy, each image once.

    Args:
        accuracy: index of an image -> its pixel accuracy. Of equal images the first is taken.
    """
    order = sorted(accuracy, key=lambda index: (-accuracy[index], index))
    if not order:
        return {}
    best, median, worst = order[0], order[len(order) // 2], order[-1]
    chosen = {"best": best}
    if median not in (best, worst):
        chosen["median"] = median
    if worst != best:
        chosen["worst"] = worst
    return chosen


def _strongest(block: Block, clean: int, table: Table, kept: KeptOf) -> tuple[int, list[NetworkImages]]:
    """Return the column of the strongest attack, and the stored images of each network under it.

    Only attacks with stored images of the most networks are considered; the strongest has the lowest mean mIoU.
    """
    rows = [row for row in block.rows if not row.apart]
    own = {row.label: images for row in rows if (images := _images(row.cells[clean], kept))}
    means: dict[int, float] = {}
    for index, column in enumerate(table.columns):
        values = [mean for row in rows if (mean := row.cells[index].mean) is not None]
        if column.attack is not None and values:
            means[index] = fmean(values)
    found: tuple[int, list[NetworkImages]] = (clean, [])
    for index in sorted(means, key=means.__getitem__):
        pairs = [
            NetworkImages(row.label, own[row.label], images)
            for row in rows
            if row.label in own and (images := _images(row.cells[index], kept))
        ]
        if len(pairs) > len(found[1]):
            found = index, pairs
        if len(pairs) == len(own):
            break
    return found


def _limited(block: Block, clean: int, table: Table, kept: KeptOf, but: int) -> list[tuple[int, list[NetworkImages]]]:
    """Return the columns of attacks with a region, but for one, each with the stored images of each network."""
    found = []
    for index, column in enumerate(table.columns):
        cells = [(row, row.cells[index]) for row in block.rows if not row.apart]
        if column.attack is None or index == but or not any(_has_region(cell) for _, cell in cells):
            continue
        pairs = [
            NetworkImages(row.label, before, after)
            for row, cell in cells
            if (before := _images(row.cells[clean], kept)) and (after := _images(cell, kept))
        ]
        found.append((index, pairs))
    return found


def _has_region(cell: Cell) -> bool:
    return any(record.threat.region is not None for record in cell.records)


def _images(cell: Cell, kept: KeptOf) -> dict[int, KeptImage]:
    """Return the stored images of the first run of a cell, by index."""
    run = min(cell.records, key=lambda record: record.target.seed, default=None)
    return {image.index: image for image in kept(run.digest)} if run is not None and run.scores else {}


def _right(image: KeptImage) -> float:
    """Return the share of valid pixels that are predicted correctly; 0 without valid pixels."""
    valid = image.truth < len(image.palette)
    return float((image.preds == image.truth)[valid].mean()) if valid.any() else 0.0


def _caption(chosen: dict[str, int], number: int, networks: int, pairs: Sequence[NetworkImages], *, asked: bool) -> str:
    first = pairs[0]
    pieces = max(len(first.attacked[index].adversarial) for index in chosen.values())
    which = ", ".join(chosen) if len(chosen) > 1 else "the only one"
    text = (
        f"Of {number} image{'s' if number > 1 else ''} that {'were' if number > 1 else 'was'} kept: {which} by pixel "
        f"accuracy under the attack, averaged over {networks} network{'s' if networks > 1 else ''} (first seed)."
    )
    if asked:
        text = f"Chosen by hand from {number} image{'s' if number > 1 else ''} that were kept (first seed)."
    text += (
        f" Every network gets images that were attacked on itself; attacked image and change, {AMPLIFIED} times "
        f"as large around grey, are those of {first.defense}. Void is white."
    )
    if pieces > 1:
        text += f" Images are attacked in up to {pieces} pieces: the image and its change show the first."
    return text


def _alt(chosen: dict[str, int], pairs: Sequence[NetworkImages], model: str, attack: str) -> str:
    """Return the pixel accuracy of each network on each image, in words."""
    called = {name: name if name.startswith("image ") else f"{name} image" for name in chosen}
    lines = [
        f"{called[name]}, {pair.defense}: {100 * _right(pair.clean[index]):.0f} % of the pixels right, "
        f"{100 * _right(pair.attacked[index]):.0f} % under {attack}"
        for name, index in chosen.items()
        for pair in pairs
    ]
    return f"{model}. {'; '.join(lines)}."


def _draw(
    chosen: dict[str, int], pairs: Sequence[NetworkImages], attack: str, classes: Sequence[str], longest: int
) -> Canvas:
    rows = [row for name, index in chosen.items() for row in _panels(name, index, pairs, attack)]
    heights = [max(pixels.shape[0] / pixels.shape[1] for _, pixels in row) for row in rows]
    canvas, axes = new_canvas(
        1.75 * (2 + len(pairs)), sum(1.75 * height + 0.25 for height in heights), len(rows), 2 + len(pairs), heights
    )
    for ax, (title, pixels) in zip(axes, (panel for row in rows for panel in row), strict=True):
        ax.set_axis_off()
        ax.xaxis.set_visible(False)  # off, axes are still laid out: half of the time
        ax.yaxis.set_visible(False)
        ax.imshow(_small(pixels, longest), interpolation="none")
        ax.set_title(plain(title, 28), fontsize=7.5, fontweight="normal")
    _legend(
        canvas,
        [kept[index] for pair in pairs for kept in (pair.clean, pair.attacked) for index in chosen.values()],
        classes,
    )
    return canvas


def _legend(canvas: Canvas, images: Sequence[KeptImage], classes: Sequence[str]) -> None:
    """Add a legend of the classes that the images show."""
    from matplotlib.patches import Patch

    seen = sorted(
        {int(label) for image in images for labels in (image.truth, image.preds) for label in np.unique(labels)}
    )
    patches = [
        Patch(color=images[0].palette[label] / 255, label=plain(classes[label], 24))
        for label in seen
        if label < len(classes)
    ]
    columns = max(1, min(len(patches), int(canvas.get_figwidth() / 1.2)))
    canvas.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=7.5)


def _panels(name: str, index: int, pairs: Sequence[NetworkImages], attack: str) -> list[list[tuple[str, Pixels]]]:
    """Return two rows of titled panels: one for the clean image, one for the attacked image."""
    first = pairs[0].attacked[index]
    image, adversarial = first.images[0], first.adversarial[0]
    above = [(f"{name}: {first.name}", in_8_bit(image)), ("truth", coloured(first.truth, first.palette))]
    below = [
        (f"attacked ({pairs[0].defense})", in_8_bit(adversarial)),
        (f"its change x {AMPLIFIED}", amplified(adversarial, image)),
    ]
    for pair in pairs:
        for row, kept, state in ((above, pair.clean[index], "clean"), (below, pair.attacked[index], attack)):
            row.append((f"{pair.defense}, {state}: {100 * _right(kept):.0f} %", coloured(kept.preds, kept.palette)))
    return [above, below]


def _small(pixels: Pixels, longest: int) -> Pixels:
    """Return every n-th row and column, so that the longer side has at most so many pixels."""
    step = -(-max(pixels.shape[:2]) // longest)
    return pixels[::step, ::step]
