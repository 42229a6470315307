"""Figures of training: loss per epoch, and the shares of boundary pixels of DDC-AT (Xu et al. 2021, Fig. 4)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segbench.reports.figures.base import COLOURS, Figure, new_canvas, plain
from segbench.reports.labels import Labels
from segbench.reports.page.reading import MOST_NETWORKS
from segbench.reports.records import Network, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

History: TypeAlias = dict[str, NDArray[np.float64]]
Histories: TypeAlias = list[tuple[str, History]]


def training(records: Sequence[Record], labels: Labels, history: Callable[[str], Path | None]) -> list[Figure]:
    """Return a figure of the loss per epoch, and one of the shares of boundary pixels for networks that have them.

    There are none where more than `MOST_NETWORKS` networks were trained.

    Args:
        records: the records.
        labels: the labels of networks.
        history: digest of a training -> its history, a CSV file with one row per epoch, or None.
    """
    networks: dict[str, Network] = {r.target.digest: r.target for r in records}
    if len({labels.key(network) for network in networks.values()}) > MOST_NETWORKS:
        return []
    several = len({network.seed for network in networks.values()}) > 1
    histories: Histories = []
    for digest, network in networks.items():
        path = history(digest)
        if path is not None and path.is_file():
            found = _read(path)
            if {"epoch", "loss"} <= set(found) and len(found["epoch"]) > 1:
                name = labels.network(network) + (f", seed {network.seed}" if several else "")
                histories.append((name, found))
    figures = []
    if histories:
        ends = "; ".join(f"{name}: {own['loss'][-1]:.3g}" for name, own in histories)
        figures.append(
            Figure(
                "training-loss",
                "Training: loss per epoch",
                "Losses of different defenses have different terms: compare a line's shape with itself, not its height "
                "with another's.",
                f"Loss at the last epoch: {ends}.",
                partial(_draw_loss, histories),
            )
        )
    shares = [(name, own) for name, own in histories if {"mask_predicted", "mask_real"} <= set(own)]
    if shares:
        ends = "; ".join(
            f"{name}: predicted {100 * own['mask_predicted'][-1]:.1f} %, real {100 * own['mask_real'][-1]:.1f} %"
            for name, own in shares
        )
        figures.append(
            Figure(
                "training-boundary",
                "Training: share of pixels with boundary property",
                "Dashed: real share, pixels whose prediction the attack flips. Solid: share that the mask branch "
                "predicts. Where they meet, the branch predicts as many pixels as flip, if not always the same.",
                f"At the last epoch: {ends}.",
                partial(_draw_shares, shares),
            )
        )
    return figures


def _read(path: Path) -> History:
    """Return the columns of a history by name."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    values = np.array([[float(value or "nan") for value in row] for row in rows], dtype=np.float64)
    return dict(zip(names, values.reshape(-1, len(names)).T, strict=True))


def _draw_loss(histories: Histories) -> Canvas:
    canvas, (ax,) = new_canvas(8.2, 3.6)
    for index, (name, own) in enumerate(histories):
        style = ("-", "--", ":")[index // len(COLOURS) % 3]
        ax.plot(own["epoch"], own["loss"], linestyle=style, color=COLOURS[index % len(COLOURS)], label=plain(name))
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    canvas.legend(loc="outside right upper", fontsize=8)
    return canvas


def _draw_shares(histories: Histories) -> Canvas:
    """Draw one panel per network; all panels have the same scale."""
    columns = min(3, len(histories))
    rows = -(-len(histories) // columns)
    canvas, axes = new_canvas(1.0 + 2.7 * columns, 2.2 * rows + 0.5, rows, columns)
    for ax, (name, own) in zip(axes, histories, strict=False):
        ax.plot(own["epoch"], 100 * own["mask_predicted"], color=COLOURS[0], label="predicted")
        ax.plot(own["epoch"], 100 * own["mask_real"], color=COLOURS[1], linestyle="--", label="real")
        ax.set_title(plain(name, 34), fontsize=9)
    for ax in axes[len(histories) :]:
        ax.set_visible(False)
    for ax in axes[::columns]:
        ax.set_ylabel("share of pixels, %")
    axes[0].set_ylim(bottom=0)
    canvas.supxlabel("epoch", fontsize="medium")
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8)
    return canvas
