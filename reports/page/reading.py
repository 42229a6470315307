"""Sentences that summarise a table, computed from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from segbench.reports.display import with_defense
from segbench.reports.numbers import number
from segbench.reports.sanity import explained
from segbench.reports.tables.grid import Cell, Column, Row, Table

MOST_NETWORKS = 100
"""With more networks than this a report has no cards, and no figure in which each network has lines of its own."""
COLLAPSE = 0.5
"""A network collapses if it keeps less than this share of its clean mIoU."""


class Fate(NamedTuple):
    """Clean mIoU and lowest attacked mIoU of a network in a table.

    Attributes:
        model: label of the architecture.
        defense: label of the defense.
        clean: mIoU on clean images, in per cent.
        worst: lowest mIoU under an attack, in per cent.
        attack: label of that attack.
        column: label of the column that it stands in; another attack's, where that left a gradient not to be trusted.
        classes: number of classes that the network has learnt: those with an IoU of at least 1 % on clean images.
    """

    model: str
    defense: str
    clean: float
    worst: float
    attack: str
    column: str
    classes: int

    @property
    def network(self) -> str:
        """The network's label: "PSPNet with SAT"."""
        return with_defense(self.model, self.defense)

    @property
    def kept(self) -> float:
        """Share of the clean mIoU that is left under the worst attack."""
        return self.worst / self.clean


def fates_of(table: Table, *, apart: bool = False) -> list[Fate]:
    """Return the fate of every network of a table whose values are complete.

    Args:
        table: the table.
        apart: use only the rows that stand apart (see `Row.apart`), instead of all others.
    """
    fates = []
    models = dict.fromkeys(column.model for column in table.columns)
    for block in table.blocks:
        for model in models:
            columns = [index for index, column in enumerate(table.columns) if column.model == model]
            for row in (own for own in block.rows if own.apart == apart):
                if fate := _fate(model or block.label, row, columns, table):
                    fates.append(fate)
    return fates


def _fate(model: str, row: Row, columns: Sequence[int], table: Table) -> Fate | None:
    """Return the fate of a network from some columns of a row; None if a value is missing."""
    clean = next((row.cells[i] for i in columns if table.columns[i].attack is None), None)
    attacked = [
        (row.cells[i].standing, row.cells[i].stands_by or table.columns[i].label, table.columns[i].label)
        for i in columns
        if table.columns[i].attack is not None
    ]
    values = [(mean, label, column) for mean, label, column in attacked if mean is not None]
    if clean is None or not clean.mean or not values or any(row.cells[i].state != "done" for i in columns):
        return None
    return Fate(model, row.label, clean.mean, *min(values, key=lambda value: value[0]), _learnt(clean))


def _learnt(cell: Cell) -> int:
    columns = zip(*(run.scores.class_iou for run in cell.records if run.scores), strict=True)
    means = [fmean(value or 0.0 for value in column) for column in columns]
    return sum(mean >= 1 for mean in means)


def notes(table: Table) -> list[str]:
    """Return sentences that a reader needs to understand a table: on budgets, failures and flags.

    Args:
        table: the table.
    """
    rows = [row for block in table.blocks for row in block.rows]
    found = []
    for index, column in enumerate(table.columns):
        if note := _unused_budget(column, [row.cells[index] for row in rows]):
            found.append(note)
    attacks = [column.attack for column in table.columns if column.attack is not None]
    if table.setting != "black-box" and attacks and not any(attack.name.startswith("sea") for attack in attacks):
        found.append(
            "A stronger attack may lower these values: the Segmentation Ensemble Attack (sea) is not among them, and "
            "adversarially trained networks that held against weaker attacks have fallen to it (Croce et al. 2024)."
        )
    cells = [(with_defense(model, row.label), cell) for model, row, _, cell in table.cells]
    failed = sum(run.status == "failed" for _, cell in cells for run in cell.records)
    missing = sum(run.status == "missing" for _, cell in cells for run in cell.records)
    idle = [fate.network for apart in (False, True) for fate in fates_of(table, apart=apart) if fate.classes < 2]
    if idle:
        found.append(
            f"On clean images these predict one class alone, so that their robustness means nothing: {', '.join(idle)}."
        )
    if len(rows) > MOST_NETWORKS:
        found.append(
            f"These are {len(rows)} networks: cards and figures that show each one are left out beyond {MOST_NETWORKS}."
        )
    if failed:
        found.append(f"{failed} evaluation{'s' if failed > 1 else ''} failed; the reasons are below.")
    if missing:
        found.append(f"{missing} evaluation{'s have' if missing > 1 else ' has'} not been run yet.")
    found += [
        f"n/a: {run.error}."
        for _, cell in cells
        for run in cell.records
        if run.status == "not applicable" and run.error is not None
    ]
    return list(dict.fromkeys([*found, *_certificates(cells), *signs(table), *table.remarks]))


def signs(table: Table) -> list[str]:
    """Return a sentence on each flag of a table, which begins with the sign that stands beside the values."""
    return _flagged([(with_defense(model, row.label), cell) for model, row, _, cell in table.cells])


def _certificates(cells: Sequence[tuple[str, Cell]]) -> list[str]:
    """Return a sentence per network with certificates on clean images."""
    certified: dict[str, list[Mapping[str, float | str | None]]] = {}
    for network, cell in cells:
        runs = [run.extras for run in cell.records if "certified_miou" in run.extras]
        if runs:
            certified.setdefault(network, []).extend(runs)
    found = []
    for network, own in certified.items():
        miou, aacc, abstained, radius = (
            fmean(float(run[name] or 0.0) for run in own)
            for name in ("certified_miou", "certified_aacc", "abstained", "certified_radius")
        )
        of = f" (means of {len(own)} runs)" if len(own) > 1 else ""
        found.append(
            f"{network} certifies on clean images, within an L2 distance of {radius:.3g}: "
            f"mIoU {miou:.1f}, pixel accuracy {aacc:.1f}, {abstained:.1f} % of the pixels "
            f"without a certificate and counted as wrong{of}. Each piece that is attacked, the image or a crop, is "
            "certified by itself."
        )
    return found


def _unused_budget(column: Column, cells: Sequence[Cell]) -> str:
    """Return a sentence on an attack whose steps cannot reach eps, if the measured change agrees; else ""."""
    options = column.attack.options if column.attack else {}
    steps, alpha, eps = options.get("steps"), options.get("alpha"), options.get("eps")
    used = [run.budget_used for cell in cells for run in cell.records if run.budget_used is not None]
    if not (isinstance(steps, int) and isinstance(alpha, float) and isinstance(eps, float) and used):
        return ""
    if steps * alpha >= eps * (1 - 1e-9) or max(used) > steps * alpha + 1e-6:
        return ""
    return (
        f"{column.label} does not use up its budget: {steps} {'step' if steps == 1 else 'steps'} of {number(alpha)} "
        f"reach {number(steps * alpha)} of eps = {number(eps)}."
    )


def _flagged(cells: Sequence[tuple[str, Cell]]) -> list[str]:
    attacked = len({network for network, cell in cells if any(run.setting != "clean" for run in cell.records)})
    flagged: dict[str, list[str]] = {}
    for network, cell in cells:
        for flag in cell.flags:
            networks = flagged.setdefault(flag, [])
            if network not in networks:
                networks.append(network)
    return [
        f"⚑ Flagged {explained(flag)}: "
        f"{f'all {attacked} networks' if 2 < attacked == len(networks) else ', '.join(networks)}."
        for flag, networks in flagged.items()
    ]
