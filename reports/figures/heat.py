"""Heat maps: IoU per class, and mIoU by source and target network."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from segbench.reports.figures.base import Figure, new_canvas, plain
from segbench.reports.figures.losses import CountsOf, losses
from segbench.reports.labels import Labels
from segbench.reports.page.reading import fates_of
from segbench.reports.records import Record
from segbench.reports.tables.grid import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Grid = list[list[float | None]]

MARKED = (
    " * marks a class whose IoU falls significantly from clean (paired bootstrap over images, p < 0.05 after Holm's "
    "correction for the classes of the network); it says that the images show it, not that other training runs would."
)


def per_class(table: Table, counts: CountsOf = lambda digest: None) -> list[Figure]:
    """Return a heat map of IoU per class, with two rows per network: clean and under its worst attack.

    Args:
        table: the table.
        counts: digest of an evaluation -> its counts; with them, classes that lose significantly are marked.
    """
    worst = {(fate.model, fate.defense): fate.column for fate in fates_of(table)}
    names, grid = [], []
    lost_rows: list[set[int]] = []
    tested = False
    for block in table.blocks:
        for row in block.rows:
            attack = worst.get((block.label, row.label))
            cells = {column.label: cell for column, cell in zip(table.columns, row.cells, strict=True)}
            found = losses(cells["clean"], cells[attack], counts) if attack and "clean" in cells else None
            tested = tested or found is not None
            for column, cell in zip(table.columns, row.cells, strict=True):
                if attack is not None and column.label in ("clean", attack):
                    names.append(f"{block.label}, {row.label}: {column.label}")
                    grid.append(_class_means(cell.records))
                    lost_rows.append(set() if column.label == "clean" or found is None else found)
    if not grid:
        return []
    classes = list(table.first.classes)
    lost = _most_lost(classes, grid)
    return [
        Figure(
            f"{table.name}-classes",
            f"{table.heading}: IoU per class, clean and under the worst attack",
            f"Rows come in pairs; a class that goes pale from one to the next is lost. {lost}{MARKED * tested}",
            _alt(names, classes, grid),
            partial(_draw, names, classes, grid, lost_rows),
        )
    ]


def transfer(table: Table, white: Table | None, labels: Labels) -> list[Figure]:
    """Return a heat map of mIoU by target and source network, for the last attack of the table.

    Args:
        table: a black-box table.
        white: the white-box table of the same data, or None; it gives the mIoU under attacks made on the target itself.
        labels: the labels of networks.
    """
    attacks = [column.label for column in table.columns if column.attack is not None]
    own = [table] if white is None else [table, white]
    runs = [run for t in own for run in _column(t, attacks[-1])] if attacks else []
    targets = list(dict.fromkeys(labels.network(run.target) for run in runs))
    sources = list(dict.fromkeys(labels.network(run.source) for run in runs if run.setting == "black-box"))
    if len(sources) < 2 and len(targets) < 2:
        return []
    columns = [*sources, "itself"] if white is not None else sources
    grid: Grid = []
    for target in targets:
        found: dict[str, list[float]] = {}
        for run in runs:
            if labels.network(run.target) == target and run.scores:
                key = labels.network(run.source) if run.setting == "black-box" else "itself"
                found.setdefault(key, []).append(run.scores.miou)
        grid.append([statistics.fmean(found[key]) if key in found else None for key in columns])
    return [
        Figure(
            f"{table.name}-transfer",
            f"{table.heading}: transfer of {attacks[-1]}",
            "Rows are targets, columns the networks that the adversarial images were made on; means over seeds. The "
            "paler a field, the better the attack transfers; an attack made on the target itself should be palest.",
            _alt(targets, columns, grid),
            partial(_draw, targets, columns, grid),
        )
    ]


def _column(table: Table, label: str) -> list[Record]:
    for index, column in enumerate(table.columns):
        if column.label == label:
            cells = [row.cells[index] for block in table.blocks for row in block.rows]
            return [run for cell in cells for run in cell.records if not run.oblivious]
    return []


def _class_means(runs: Sequence[Record]) -> list[float | None]:
    columns = zip(*(run.scores.class_iou for run in runs if run.scores), strict=True)
    known = [[value for value in column if value is not None] for column in columns]
    return [statistics.fmean(values) if values else None for values in known]


def _most_lost(classes: Sequence[str], grid: Grid) -> str:
    """Return a sentence on the class whose IoU falls most from clean to attacked, on average over the networks."""
    losses = []
    for index, name in enumerate(classes):
        pairs = [(a[index], b[index]) for a, b in zip(grid[::2], grid[1::2], strict=True)]
        drops = [a - b for a, b in pairs if a is not None and b is not None]
        if drops:
            losses.append((statistics.fmean(drops), name))
    drop, name = max(losses, default=(0.0, ""))
    if drop < 0.05:
        return ""
    return f"Most is lost of {name}: {drop:.1f} points on average."


def _alt(rows: Sequence[str], columns: Sequence[str], grid: Grid) -> str:
    lines = [
        f"{row}: " + ", ".join(f"{c} {v:.0f}" for c, v in zip(columns, values, strict=True) if v is not None)
        for row, values in zip(rows, grid, strict=True)
    ]
    return "; ".join(lines) + "."


def _draw(
    rows: Sequence[str], columns: Sequence[str], grid: Grid, marked: Sequence[Collection[int]] | None = None
) -> Canvas:
    import numpy as np

    values = np.array([[np.nan if value is None else value for value in row] for row in grid])
    longest = max(len(row) for row in rows)
    width, height = 1.2 + 0.07 * min(longest, 60) + 0.45 * len(columns), 1.2 + 0.27 * len(rows)
    canvas, (ax,) = new_canvas(max(5.0, width), height)
    shown = ax.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_xticks(range(len(columns)), [plain(c) for c in columns], rotation=35, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), [plain(r, 60) for r in rows])
    ax.tick_params(length=0)
    if values.size <= 600:
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                ax.text(
                    column,
                    row,
                    f"{value:.0f}{'*' * (marked is not None and column in marked[row])}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if value > 60 else "black",
                )
    canvas.colorbar(shown, ax=ax, label="IoU, %", shrink=0.9)
    return canvas
