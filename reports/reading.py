"""What a table says, in sentences that are computed from its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reports.layouts import Cell, Column, Table, number

COLLAPSE = 0.5
"""A network that keeps less than this share of its clean mIoU is said to collapse."""


class _Fate(NamedTuple):
    network: str
    clean: float
    worst: float
    attack: str

    @property
    def kept(self) -> float:
        return self.worst / self.clean


def reading(tables: Sequence[Table]) -> str:
    """Say in two sentences what collapses and what holds in the first table with attacks; empty if none has values.

    Args:
        tables: the tables of a report, white-box first.
    """
    for table in tables:
        fates = _fates(table)
        if fates:
            return _sentences(table, fates)
    return ""


def _fates(table: Table) -> list[_Fate]:
    fates = []
    attacked = [index for index, column in enumerate(table.columns) if column.attack is not None]
    clean = next((index for index, column in enumerate(table.columns) if column.attack is None), None)
    if clean is None:
        return []
    for block in table.blocks:
        for row in block.rows:
            before = row.cells[clean].mean
            values = [(mean, table.columns[i].label) for i in attacked if (mean := row.cells[i].mean) is not None]
            if before and values:
                fates.append(_Fate(f"{block.label} with {row.label}", before, *min(values)))
    return fates


def _sentences(table: Table, fates: list[_Fate]) -> str:
    kind = f"{table.setting} attack"
    hit, best = min(fates, key=lambda fate: fate.kept), max(fates, key=lambda fate: fate.worst)
    fallen = sum(fate.kept < COLLAPSE for fate in fates)
    if len(fates) == 1:
        verb = "collapses" if fallen else "falls"
        return (
            f"{hit.network} {verb} from {hit.clean:.1f} to {hit.worst:.1f} mIoU under {hit.attack}, the worst "
            f"{kind} here. It is the only network in this table, so there is nothing to hold it against."
        )
    if fallen:
        first = (
            f"{fallen} of {len(fates)} networks lose{'s' if fallen == 1 else ''} more than half of "
            f"{'its' if fallen == 1 else 'their'} clean mIoU under {'its' if fallen == 1 else 'their'} worst {kind}: "
            f"{hit.network} collapses from {hit.clean:.1f} to {hit.worst:.1f} under {hit.attack}."
        )
    else:
        first = (
            f"None of {len(fates)} networks loses more than half of its clean mIoU under its worst {kind}; "
            f"{hit.network} is hit hardest, from {hit.clean:.1f} to {hit.worst:.1f} under {hit.attack}."
        )
    if fallen == len(fates):
        second = f"Nothing holds: the best, {best.network}, keeps {best.worst:.1f} of its {best.clean:.1f}."
    else:
        second = f"{best.network} holds best and keeps {best.worst:.1f} of its {best.clean:.1f} under {best.attack}."
    return f"{first} {second}"


def notes(table: Table) -> list[str]:
    """Return what a reader must know to read a table right: budgets, failures, flags.

    Args:
        table: the table.
    """
    found = [note for column in table.columns if (note := _unused_budget(column))]
    attacks = [column.attack for column in table.columns if column.attack is not None]
    if attacks and not any(attack.name.startswith("sea") for attack in attacks):
        found.append(
            "Values under attack are upper bounds of robustness; the Segmentation Ensemble Attack (sea) is not "
            "among these attacks, and networks that hold here have fallen to it before."
        )
    cells = [(f"{b.label} with {r.label}", cell) for b in table.blocks for r in b.rows for cell in r.cells]
    failed = sum(run.status == "failed" for _, cell in cells for run in cell.records)
    missing = sum(run.status == "missing" for _, cell in cells for run in cell.records)
    if failed:
        found.append(f"{failed} evaluation{'s' if failed > 1 else ''} failed; the reasons are below.")
    if missing:
        found.append(f"{missing} evaluation{'s have' if missing > 1 else ' has'} not been run yet.")
    return found + _flagged(cells)


def _unused_budget(column: Column) -> str:
    """Say where steps of a fixed size cannot reach the bound."""
    if column.attack is None:
        return ""
    options = column.attack.options
    steps, alpha, eps = options.get("steps"), options.get("alpha"), options.get("eps")
    if not all(isinstance(value, int | float) for value in (steps, alpha, eps)) or options.get("random_start"):
        return ""
    if steps * alpha >= eps * (1 - 1e-9):
        return ""
    return (
        f"{column.label} cannot use up its budget: {steps} steps of {number(alpha)} reach {number(steps * alpha)} "
        f"of eps = {number(eps)}."
    )


def _flagged(cells: Sequence[tuple[str, Cell]]) -> list[str]:
    flagged: dict[str, list[str]] = {}
    for network, cell in cells:
        for flag in cell.flags:
            networks = flagged.setdefault(flag, [])
            if network not in networks:
                networks.append(network)
    return [f"Flagged {flag}: {', '.join(networks)}." for flag, networks in flagged.items()]
