"""Images, truth and predictions side by side, clean above attacked (the paper's Figures 1 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reports.evidence import Example
from reports.figures.base import Figure, new_canvas, plain
from reports.labels import Labels
from reports.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

AMPLIFIED = 10
"""The perturbation is shown this many times as large, around grey."""

Panels = list[list[tuple[str, NDArray[np.uint8]] | None]]


def examples(records: Sequence[Record], labels: Labels, shown: Sequence[Example]) -> list[Figure]:
    """Return a figure per image: the clean image, truth and predictions above the attacked ones.

    Args:
        records: the records whose digests the examples name.
        labels: names of networks.
        shown: the images.
    """
    by_digest = {record.digest: record for record in records}
    figures: list[Figure] = []
    for example in shown:
        runs = [by_digest[digest] for digest in example.preds if digest in by_digest]
        if not runs:
            continue
        panels = _panels(example, runs, labels)
        attacks = ", ".join(dict.fromkeys(labels.component("attack", r.attack) for r in runs if r.setting != "clean"))
        figures.append(
            Figure(
                f"example-{len(figures) + 1}",
                f"Image {example.name}",
                f"Above: the clean image, its truth and what each network predicts. Below: the image under {attacks}, "
                f"its change {AMPLIFIED} times amplified, and the predictions then; compare each with the one above.",
                _alt(example, runs, labels),
                partial(_draw, panels),
            )
        )
    return figures


def pick(accuracy: NDArray[np.float64]) -> dict[str, int]:
    """Choose images to show: the best, the median and the worst; ties go to the first.

    Args:
        accuracy: (N,) pixel accuracy of every image; NaN where all pixels are void.
    """
    order = [int(index) for index in np.argsort(-accuracy, kind="stable") if not np.isnan(accuracy[index])]
    if not order:
        return {}
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def coloured(labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour a label map (H, W) by the palette (C, 3); void is white."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = palette
    return table[labels]


def _panels(example: Example, runs: Sequence[Record], labels: Labels) -> Panels:
    clean = {labels.network(r.target): r for r in runs if r.setting == "clean"}
    attacked = {labels.network(r.target): r for r in runs if r.setting != "clean"}
    above: list[tuple[str, NDArray[np.uint8]] | None] = [
        ("image", example.image),
        ("truth", coloured(example.mask, example.palette)),
    ]
    first = next((r for r in attacked.values() if r.digest in example.adversarial), None)
    below: list[tuple[str, NDArray[np.uint8]] | None] = [None, None]
    if first is not None:
        adversarial = example.adversarial[first.digest]
        below = [
            (f"attacked ({labels.defense(first.target)})", adversarial),
            (f"its change x {AMPLIFIED}", amplified(adversarial, example.image)),
        ]
    for network in dict.fromkeys([*clean, *attacked]):
        for row, own in ((above, clean), (below, attacked)):
            run = own.get(network)
            row.append((network, coloured(example.preds[run.digest], example.palette)) if run else None)
    return [above, below]


def amplified(adversarial: NDArray[np.uint8], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the change of an image, enlarged around grey."""
    change = adversarial.astype(np.int64) - image.astype(np.int64)
    return np.clip(128 + AMPLIFIED * change, 0, 255).astype(np.uint8)


def _alt(example: Example, runs: Sequence[Record], labels: Labels) -> str:
    """Say how many pixels each network has right."""
    valid = example.mask < len(example.palette)
    lines = []
    for run in runs:
        right = (example.preds[run.digest] == example.mask)[valid]
        share = f"{100 * right.mean():.0f} % of pixels right" if right.size else "no valid pixel"
        lines.append(f"{labels.network(run.target)} under {labels.component('attack', run.attack)}: {share}")
    return "; ".join(lines) + "."


def _draw(panels: Panels) -> Canvas:
    columns = max(len(row) for row in panels)
    height, width = next(p[1].shape[:2] for row in panels for p in row if p)
    canvas, axes = new_canvas(1.9 * columns, (1.9 * height / width + 0.3) * len(panels), len(panels), columns)
    for ax in axes:
        ax.set_axis_off()
    for index, row in enumerate(panels):
        for column, panel in enumerate(row):
            if panel is not None:
                ax = axes[index * columns + column]
                ax.imshow(panel[1], interpolation="nearest")
                ax.set_title(plain(panel[0], 26), fontsize=7.5, fontweight="normal")
    return canvas
