"""Figures of what is tallied on images: IoU of single images, reliability of confidence, and objects by size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from segbench.reports.evidence import Evidence
from segbench.reports.figures.base import COLOURS, MARKERS, Figure, fit, new_canvas, plain
from segbench.reports.metrics import confidence, images, objects
from segbench.reports.page.reading import fates_of
from segbench.reports.records import Record
from segbench.reports.tables.grid import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from segbench.reports.metrics.images import Floats

MOST = 6
"""Networks that one of these figures shows: the first ones of the table."""


class Pair(NamedTuple):
    """What one network has on clean images and under its worst attack, or None where it was not tallied.

    Attributes:
        name: of the network.
        attack: label of its worst attack.
        clean: values on clean images.
        attacked: values under that attack.
    """

    name: str
    attack: str
    clean: Floats
    attacked: Floats


def distributions(table: Table, evidence: Evidence) -> list[Figure]:
    """Return a figure of how many images lie under each mean IoU, clean and under the worst attack of each network.

    Args:
        table: the table.
        evidence: the source of counts.
    """

    def values(run: Record) -> Floats | None:
        counts = evidence.counts(run.digest)
        return None if counts is None else 100 * images.image_iou(counts)

    pairs = _pairs(table, values, np.concatenate)
    told = [
        f"{pair.name}: half of the images reach {np.median(pair.clean):.0f} clean and {np.median(pair.attacked):.0f} "
        f"under {pair.attack}, the worst {pair.clean.min():.0f} and {pair.attacked.min():.0f}"
        for pair in pairs
    ]
    return _figure(
        f"{table.name}-images",
        f"{table.heading}: IoU of single images",
        "The share of images whose mean IoU is at most the value below: the further left a line rises, the more images "
        "fail. All runs together.",
        told,
        pairs,
        _draw_distribution,
        "mean IoU of an image, %",
        "share of images, %",
    )


def reliability(table: Table, evidence: Evidence) -> list[Figure]:
    """Return reliability diagrams, clean and under the worst attack of each network.

    Args:
        table: the table.
        evidence: the source of tallies.
    """

    def values(run: Record) -> Floats | None:
        tallies = evidence.tallies(run.digest)
        return confidence.reliability(tallies["confidence"]) if "confidence" in tallies else None

    pairs = _pairs(table, values, lambda runs: np.sum(runs, axis=0))
    told = [
        f"{pair.name}: expected calibration error {_error(pair.clean):.3f} clean and {_error(pair.attacked):.3f} under "
        f"{pair.attack}"
        for pair in pairs
    ]
    return _figure(
        f"{table.name}-reliability",
        f"{table.heading}: are confident pixels right?",
        "For each bin of confidence the share of its pixels that are right; below the diagonal a network is surer than "
        "it should be. The larger a marker, the more pixels.",
        told,
        pairs,
        _draw_reliability,
        "confidence",
        "share of right pixels",
    )


def sizes(table: Table, evidence: Evidence) -> list[Figure]:
    """Return a figure of what is left of small, medium and large objects, clean and under the worst attack.

    Args:
        table: the table.
        evidence: the source of tallies.
    """

    def values(run: Record) -> Floats | None:
        tallies = evidence.tallies(run.digest)
        if "objects" not in tallies:
            return None
        return 100 * np.array([objects.recall(tallies["objects"], size) for size in objects.SIZES])

    pairs = _pairs(table, values, lambda runs: np.mean(runs, axis=0))
    told = [
        f"{pair.name}: "
        + ", ".join(
            f"{size} {before:.0f} to {after:.0f}"
            for size, before, after in zip(objects.SIZES, pair.clean, pair.attacked, strict=True)
            if not np.isnan(before)
        )
        + f" under {pair.attack}"
        for pair in pairs
    ]
    return _figure(
        f"{table.name}-sizes",
        f"{table.heading}: objects by size",
        "The share of the pixels of small, medium and large objects that are right; small is below 32 x 32 pixels, "
        "large from 96 x 96 on. Means over runs.",
        told,
        pairs,
        _draw_sizes,
        "",
        "recall, %",
    )


def _pairs(
    table: Table, values: Callable[[Record], Floats | None], together: Callable[[Sequence[Floats]], Floats]
) -> list[Pair]:
    """Return the values of each network on clean images and under its worst attack, where all its runs have them."""
    worst = {(fate.model, fate.defense): fate.column for fate in fates_of(table)}
    found = []
    for block in table.blocks:
        for row in block.rows:
            attack = worst.get((block.label, row.label))
            cells = {column.label: cell for column, cell in zip(table.columns, row.cells, strict=True)}
            if attack is None or "clean" not in cells:
                continue
            clean, attacked = (_values(cells[label], values) for label in ("clean", attack))
            if clean and attacked:
                found.append(Pair(f"{block.label}, {row.label}", attack, together(clean), together(attacked)))
    return found[:MOST]


def _values(cell: Cell, values: Callable[[Record], Floats | None]) -> list[Floats]:
    found = [values(run) for run in cell.records if run.status == "done"]
    known = [own for own in found if own is not None and own.size]
    return known if len(known) == len(found) else []


def _figure(
    name: str,
    title: str,
    caption: str,
    told: Sequence[str],
    pairs: Sequence[Pair],
    draw: Callable[[Axes, Pair], None],
    across: str,
    up: str,
) -> list[Figure]:
    if not pairs:
        return []
    return [Figure(name, title, caption, f"{'; '.join(told)}.", partial(_draw, pairs, draw, across, up))]


def _draw(pairs: Sequence[Pair], draw: Callable[[Axes, Pair], None], across: str, up: str) -> Canvas:
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    canvas, axes = new_canvas(max(4.6, 3.1 * columns), 0.7 + 2.6 * rows, rows, columns)
    for place, (ax, pair) in enumerate(zip(axes, pairs, strict=False)):
        draw(ax, pair)
        ax.set_title(plain(pair.name, 30))
        if place + columns >= len(pairs):
            ax.set_xlabel(across)
            ax.tick_params(labelbottom=True)
        if place % columns == 0:
            ax.set_ylabel(up)
    for ax in axes[len(pairs) :]:
        ax.set_visible(False)
    handles = {text: own for ax in axes for own, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    canvas.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
    return canvas


_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": COLOURS[0], "marker": MARKERS[0]},
    {"color": COLOURS[1], "marker": MARKERS[1]},
)
_LABELS = ("clean", "under the worst attack")


def _draw_distribution(ax: Axes, pair: Pair) -> None:
    for values, own, label in zip((pair.clean, pair.attacked), _LOOKS, _LABELS, strict=True):
        ordered = np.sort(values)
        share = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
        ax.step(
            np.concatenate([[0], ordered, [100]]),
            np.concatenate([[0], share, [100]]),
            where="post",
            color=own["color"],
            linestyle="-" if label == "clean" else "--",
            label=label,
        )
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)


def _draw_reliability(ax: Axes, pair: Pair) -> None:
    ax.axline((0, 0), slope=1, color=COLOURS[-1], linewidth=0.8, linestyle=":")
    for (pixels, right, summed), own, label in zip((pair.clean, pair.attacked), _LOOKS, _LABELS, strict=True):
        some = pixels > 0
        where, height = summed[some] / pixels[some], right[some] / pixels[some]
        ax.plot(where, height, color=own["color"], linewidth=1)
        area = 6 + 60 * pixels[some] / pixels.sum()
        ax.scatter(where, height, s=area, color=own["color"], marker=own["marker"], label=label)
    fit([ax], [0, 1], [0, 1])


def _draw_sizes(ax: Axes, pair: Pair) -> None:
    for values, own, label in zip((pair.clean, pair.attacked), _LOOKS, _LABELS, strict=True):
        ax.plot(range(len(objects.SIZES)), values, label=label, **own)
    ax.set_xticks(range(len(objects.SIZES)), objects.SIZES)
    ax.set_xlim(-0.3, len(objects.SIZES) - 0.7)
    fit([ax], up=[0, 100])


def _error(bins: Floats) -> float:
    pixels, right, summed = bins
    return float(np.abs(right - summed).sum() / max(1.0, pixels.sum()))
