"""The results of a run as tables for a terminal; the report has the whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from segbench.reports.records import Component, Record

WIDE = 10_000
"""Characters of a line on which no table needs to be squeezed."""


def results_tables(records: Sequence[Record], console: Console) -> list[Table]:
    """Return a table per dataset and setting: a row per network, a column per attack, mIoU in per cent.

    Args:
        records: evaluations in the order of the matrix; those that failed or are missing are shown as such.
        console: where they will be printed; what is too wide for it comes in several tables.
    """
    tables: list[Table] = []
    for dataset in dict.fromkeys(r.dataset.short for r in records):
        for setting in ("white-box", "black-box"):
            chosen = [r for r in records if r.dataset.short == dataset and r.setting == setting]
            if setting == "white-box":
                chosen += [r for r in records if r.dataset.short == dataset and r.setting == "clean"]
            attacks = sorted(dict.fromkeys(r.attack.short for r in chosen), key=lambda short: short != "clean")
            tables += _fitting(f"{dataset}, {setting}, mIoU in per cent", chosen, attacks, console)
    return tables


def _fitting(title: str, records: Sequence[Record], attacks: Sequence[str], console: Console) -> list[Table]:
    """Return tables of these attacks, each as narrow as the console where that can be had."""
    if not attacks:
        return []
    table = _table(title, records, attacks)
    wanted = console.measure(table, options=console.options.update(width=WIDE)).maximum
    if len(attacks) == 1 or wanted <= console.width:
        return [table]
    half = (len(attacks) + 1) // 2
    return [table for part in (attacks[:half], attacks[half:]) for table in _fitting(title, records, part, console)]


def _table(title: str, records: Sequence[Record], attacks: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("model", "defense"):
        table.add_column(heading)
    for short in attacks:
        table.add_column(short, justify="right")
    rows: dict[tuple[str, str], dict[str, list[Record]]] = {}
    model_label = labels(record.target.model for record in records)
    defense_label = labels(record.target.defense for record in records)
    for record in records:
        defense = defense_label[record.target.defense.short] + (" (dynamic)" if record.dynamic else "")
        defense += ", oblivious attack" if record.oblivious else ""
        row = rows.setdefault((model_label[record.target.model.short], defense), {})
        row.setdefault(record.attack.short, []).append(record)
    for (model, defense), row in rows.items():
        table.add_row(model, defense, *(_cell(row.get(short, [])) for short in attacks))
    return table


def labels(components: Iterable[Component]) -> dict[str, str]:
    """Return what to call each component, by its short string: its bare name, unless two of them share that."""
    shorts = {component.short: component.name for component in components}
    names = list(shorts.values())
    return {short: name if names.count(name) == 1 else short for short, name in shorts.items()}


def _cell(records: Sequence[Record]) -> str:
    """Mean and sample standard deviation over seeds (and pairs), or what there is in place of numbers."""
    scores = [r.scores.miou for r in records if r.scores is not None]
    absent = len(records) - len(scores)
    if not records:
        return ""
    if not scores:
        return f"[red]{records[0].status}[/]"
    mean = sum(scores) / len(scores)
    text = f"{mean:.1f}"
    if len(scores) > 1:
        text += f" [dim]±{(sum((s - mean) ** 2 for s in scores) / (len(scores) - 1)) ** 0.5:.1f}[/]"
    return f"{text} [red]({absent} {next(r.status for r in records if r.scores is None)})[/]" if absent else text
