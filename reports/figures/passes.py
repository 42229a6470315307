"""The figure of mIoU against passes: a line for each attack, a panel for each network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from segbench.reports.convergence import STEADY, last_fall
from segbench.reports.figures.base import Figure, fit, look, new_canvas, plain
from segbench.reports.flags import attack_label
from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.tables.grid import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Lines = dict[str, dict[str, list[Record]]]
"""Network -> attack -> runs."""
SHORTEST = 3
"""Points of a curve that is drawn."""
NETWORKS = 12
"""Networks of one figure."""
FEW = 100
"""Fewer passes than this have ticks between the powers of 10."""


def against_passes(table: Table, labels: Labels) -> list[Figure]:
    """Return a figure of mIoU against passes for every dozen of networks in a table.

    Args:
        table: the table.
        labels: the labels of components and networks.
    """
    found: Lines = {}
    for _, _, _, cell in table.cells:
        for run in cell.records:
            if len(run.curve) >= SHORTEST and not run.oblivious:
                lines = found.setdefault(labels.network(run.target), {})
                lines.setdefault(attack_label(run, labels), []).append(run)
    names = list(found)
    parts = [names[first : first + NETWORKS] for first in range(0, len(names), NETWORKS)]
    return [
        Figure(
            f"{table.name}-passes-{number}",
            f"{table.heading}: mIoU against passes",
            "Each line is one run: what the best images that the attack had looked at so far leave, each image after "
            "as many of its own forward passes. A line that still falls at its right end had not converged.",
            _alt({name: found[name] for name in part}),
            partial(_draw, {name: found[name] for name in part}),
        )
        for number, part in enumerate(parts, 1)
    ]


def _alt(found: Lines) -> str:
    parts = []
    for network, lines in found.items():
        for attack, runs in lines.items():
            passes, miou = runs[0].curve[-1]
            fall = last_fall(runs[0].curve) or 0.0
            end = f", still falling by {fall:.1f}" if fall >= STEADY else ""
            parts.append(f"{network} under {attack}: {miou:.1f} after {passes} passes{end}")
    return "; ".join(parts) + "."


def _draw(found: Lines) -> Canvas:
    from matplotlib.ticker import LogLocator

    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    canvas, axes = new_canvas(1.2 + 3.0 * columns, 2.8 * rows + 0.6, rows, columns)
    most = max(run.curve[-1][0] for lines in found.values() for runs in lines.values() for run in runs)
    attacks = list(dict.fromkeys(attack for lines in found.values() for attack in lines))
    for ax, (network, lines) in zip(axes, found.items(), strict=False):
        for attack, runs in lines.items():
            own = {**look(attacks.index(attack)), "markersize": 3, "linewidth": 1.2, "markevery": 0.2}
            for run in runs:
                ax.plot(*zip(*run.curve, strict=True), **own)
        ax.set_title(plain(network, 30))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < FEW else (1,)))
        ax.xaxis.set_major_formatter(lambda passes, _: f"{passes:g}")
        ax.xaxis.set_minor_formatter(lambda passes, _: "")
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("forward passes of an image")
    fit(axes, up=[miou for lines in found.values() for runs in lines.values() for run in runs for _, miou in run.curve])
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    axes[0].set_ylabel("mIoU, %")
    for index, attack in enumerate(attacks):
        axes[0].plot([], [], label=plain(attack), **look(index))
    canvas.legend(loc="outside lower center", ncols=columns)
    return canvas
