"""Figures of mIoU by number of steps, of mIoU by eps, and of clean against robust mIoU."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from segbench.reports.display import with_defense
from segbench.reports.figures.base import COLOURS, MARKERS, Figure, fit, look, new_canvas, plain
from segbench.reports.labels import Labels, canonical
from segbench.reports.names import as_name
from segbench.reports.page.reading import fates_of
from segbench.reports.records import Record
from segbench.reports.tables.grid import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Points = dict[float, list[float]]
Curves = dict[str, dict[str, Points]]
"""Model -> defense -> value of the option -> mIoU of the runs."""


def curves(table: Table, labels: Labels, option: str) -> list[Figure]:
    """Return a figure of mIoU by an option for each attack that the table holds with several values of that option.

    Args:
        table: the table.
        labels: the labels of components.
        option: "steps" or "eps".
    """
    families: dict[str, list[Record]] = defaultdict(list)
    clean: list[Record] = []
    for run in _runs(table):
        if run.setting == "clean":
            clean.append(run)
        elif isinstance(run.attack.options.get(option), int | float):
            rest = {key: value for key, value in run.attack.options.items() if key != option}
            families[canonical([run.attack.name, run.attack.version, rest])].append(run)
    figures: list[Figure] = []
    for members in families.values():
        if len({run.attack.options[option] for run in members}) < 2:
            continue
        found = _curves([*clean, *members], labels, option)
        attack = labels.name(members[0].attack.name)
        fixed = [
            f"{k} = {members[0].attack.options[k]:g}"
            for k in ("eps", "steps")
            if k != option and k in members[0].attack.options
        ]
        scale = "number of steps" if option == "steps" else "eps, in 255ths"
        against = "the number of steps" if option == "steps" else "eps"
        figures.append(
            Figure(
                f"{table.name}-{as_name(members[0].attack.name)}-{option}-{len(figures) + 1}",
                f"{table.heading}: mIoU against {against} of {attack}",
                f"Lines are means over runs ({', '.join(fixed) or 'all else equal'}), bars span the runs; 0 is the "
                "clean image. A line that still falls at its right end has not met its worst attack.",
                _curves_alt(found),
                partial(_draw_curves, found, scale, 255.0 if option == "eps" else 1.0),
            )
        )
    return figures


def scatter(table: Table) -> list[Figure]:
    """Return a figure of clean mIoU against mIoU under the worst attack, with one point per network.

    Args:
        table: the table.
    """
    fates = fates_of(table)
    if len(fates) < 2:
        return []
    points = [(fate.model, fate.defense, fate.clean, fate.worst) for fate in fates]
    best = max(fates, key=lambda fate: fate.worst)
    return [
        Figure(
            f"{table.name}-scatter",
            f"{table.heading}: clean against robust mIoU",
            f"Up and to the right is better; on the diagonal nothing would be lost. {best.network} is highest.",
            "; ".join(f"{f.network}: clean {f.clean:.1f}, worst attack {f.worst:.1f}" for f in fates) + ".",
            partial(_draw_scatter, points),
        )
    ]


def _runs(table: Table) -> list[Record]:
    cells = [cell for block in table.blocks for row in block.rows for cell in row.cells]
    return [run for cell in cells for run in cell.records if run.scores and not run.oblivious]


def _curves(runs: Sequence[Record], labels: Labels, option: str) -> Curves:
    found: Curves = {}
    for run in runs:
        value = 0.0 if run.setting == "clean" else float(run.attack.options[option])
        points = found.setdefault(labels.model(run.target), {}).setdefault(labels.defense(run.target), {})
        points.setdefault(value, []).append(run.scores.miou if run.scores else 0.0)
    return found


def _curves_alt(found: Curves) -> str:
    lines = []
    for model, defenses in found.items():
        for defense, points in defenses.items():
            values = [f"{statistics.fmean(points[at]):.1f} at {at:.4g}" for at in sorted(points)]
            lines.append(f"{with_defense(model, defense)}: {', '.join(values)}")
    return "; ".join(lines) + "."


def _draw_curves(found: Curves, scale: str, factor: float) -> Canvas:
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    canvas, axes = new_canvas(1.2 + 3.0 * columns, 2.8 * rows + 0.3, rows, columns)
    defenses = list(dict.fromkeys(defense for own in found.values() for defense in own))
    for ax, (model, own) in zip(axes, found.items(), strict=False):
        for defense, points in own.items():
            at = sorted(points)
            means = [statistics.fmean(points[value]) for value in at]
            spread = [
                [max(0.0, mean - min(points[value])) for mean, value in zip(means, at, strict=True)],
                [max(0.0, max(points[value]) - mean) for mean, value in zip(means, at, strict=True)],
            ]
            ax.errorbar(
                [value * factor for value in at],
                means,
                yerr=spread,
                label=plain(defense),
                capsize=2,
                **look(defenses.index(defense)),
            )
        ax.set_title(plain(model, 30))
        ax.set_xlabel(scale)
    runs = [
        (value * factor, miou)
        for own in found.values()
        for points in own.values()
        for value in points
        for miou in points[value]
    ]
    fit(axes, [at for at, _ in runs], [miou for _, miou in runs])
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    axes[0].set_ylabel("mIoU, %")
    handles = {name: own for ax in axes for own, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    canvas.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=_fitting(list(handles), 11 * columns)
    )
    return canvas


def _fitting(names: Sequence[str], characters: int) -> int:
    """Return the number of legend columns that fit into the width."""
    longest = max(len(line) for name in names for line in name.splitlines())
    return max(1, min(len(names), int(2.2 * characters / (longest + 4))))


def _draw_scatter(points: Sequence[tuple[str, str, float, float]]) -> Canvas:
    canvas, (ax,) = new_canvas(7.6, 4.2)
    models = list(dict.fromkeys(model for model, *_ in points))
    defenses = list(dict.fromkeys(defense for _, defense, *_ in points))
    looks = {defense: look(index) for index, defense in enumerate(defenses)}
    markers: dict[str, Any] = {}
    if len(models) > 1:
        # With several models the marker stands for the model, colour and fill style for the defense.
        markers = {model: MARKERS[index % len(MARKERS)] for index, model in enumerate(models)}
        looks = {defense: {**own, "marker": MARKERS[0]} for defense, own in looks.items()}
    ax.axline((0, 0), slope=1, color=COLOURS[-1], linewidth=0.8, linestyle=":")
    for model, defense, clean, worst in points:
        own = {**looks[defense], "marker": markers.get(model, looks[defense]["marker"])}
        ax.plot(clean, worst, linestyle="none", markersize=8, **own)
    for defense in defenses:
        ax.plot([], [], linestyle="none", markersize=8, label=plain(defense), **looks[defense])
    ink = ax.xaxis.label.get_color()  # no defense has this colour
    for model, marker in markers.items():
        ax.plot([], [], linestyle="none", markersize=8, label=plain(model), color=ink, marker=marker)
    low, high = (choose(clean for *_, clean, _ in points) for choose in (min, max))
    fit([ax], up=[high, *(worst for *_, worst in points)])
    ax.set_xlim(low - 0.35 * (high - low) - 3, high + 0.06 * (high - low) + 3)
    ax.set_xlabel("clean mIoU, %")
    ax.set_ylabel("mIoU under the worst attack, %")
    canvas.legend(loc="outside right upper")
    return canvas
