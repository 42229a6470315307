"""Tables 3 and 6 of the DDC-AT paper (Xu et al. 2021): variants of DDC-AT, and a comparison with other defenses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.tables.captions import caption
from segbench.reports.tables.grid import Block, Column, Table
from segbench.reports.tables.layouts import column_label, conditions, rows_of

SUBJECT = "ddcat"
VARIANTS = ("sat", "ddcat-m", "ddcat-n", SUBJECT)
"""The defenses of the ablation: no branches (sat), other pixels for the branches (m, n), and DDC-AT itself."""

RIVALS = ("multitask-depth", "multitask", "teacher-student", "teacher-student-vote", SUBJECT)
"""The defenses that the paper compares DDC-AT with, and DDC-AT itself."""


class Place(NamedTuple):
    """The place of a record in a table: the label of its block; the group, model and setting of its column."""

    block: str
    group: str
    model: str = ""
    setting: str = ""


def comparisons(records: Sequence[Record], labels: Labels) -> list[Table]:
    """Return an ablation and a comparison with rivals wherever records of DDC-AT and of such a defense may be compared.

    Oblivious attacks are left out; they stand in the plain tables.

    Args:
        records: the records, in the order of the matrix.
        labels: the labels of their components.
    """
    tables = []
    for number, (where, all_) in enumerate(conditions(records, labels), 1):
        direct = sorted((r for r in all_ if not r.oblivious), key=_settings)
        variants = _chosen([r for r in direct if r.setting != "black-box"], VARIANTS, besides=("sat", SUBJECT))
        if variants:
            heading = f"Ablation: {where}, which pixels get the branch of their own"
            tables.append(_table(f"ablation-{number}", heading, variants, labels, VARIANTS, _by_model(labels)))
        rivals = _chosen(direct, RIVALS, besides=(SUBJECT,))
        if rivals:
            heading = f"Comparison with rivals: {where}"
            tables.append(_table(f"rivals-{number}", heading, rivals, labels, RIVALS, _by_setting(labels)))
    return tables


def shown(plain: Sequence[Table], special: Sequence[Table]) -> list[Table]:
    """Return the tables that a report shows: plain tables are dropped if a special table holds all their values.

    Args:
        plain: tables of all defenses.
        special: the tables of `comparisons`.
    """
    held = [_digests(table) for table in special]
    return [*(table for table in plain if not any(_digests(table) <= own for own in held)), *special]


def _digests(table: Table) -> set[str]:
    return {run.digest for *_, cell in table.cells for run in cell.records}


def _settings(record: Record) -> int:
    return ("clean", "white-box", "black-box").index(record.setting)


def _chosen(records: Sequence[Record], defenses: Sequence[str], besides: Sequence[str]) -> list[Record]:
    """Return the records of these defenses, in the order of `defenses`.

    The result is empty unless there are records of DDC-AT and of at least one defense that is not in `besides`.
    """
    names = {record.target.defense.name for record in records}
    if SUBJECT not in names or not names & set(defenses) - set(besides):
        return []
    own = [record for record in records if record.target.defense.name in defenses]
    return sorted(own, key=lambda record: (record.dynamic, defenses.index(record.target.defense.name)))


def _by_model(labels: Labels) -> Callable[[Record], Place]:
    """Return a function that places models side by side, as groups of columns."""

    def place(record: Record) -> Place:
        model = labels.model(record.target)
        return Place("", model, model=model)

    return place


def _by_setting(labels: Labels) -> Callable[[Record], Place]:
    """Return a function that places each model in a block, with white-box and black-box side by side."""

    def place(record: Record) -> Place:
        group = {"clean": "", "white-box": "white-box"}.get(record.setting)
        if group is None:
            group = f"black-box, made on {labels.defense(record.source)}"
        return Place(labels.model(record.target), group, setting="" if record.setting == "clean" else record.setting)

    return place


def _table(
    name: str,
    heading: str,
    records: Sequence[Record],
    labels: Labels,
    defenses: tuple[str, ...],
    place: Callable[[Record], Place],
) -> Table:
    columns = _columns(records, labels, place)
    position = {(column.group, column.label): index for index, column in enumerate(columns)}
    blocks: dict[str, dict[str, list[list[Record]]]] = {}
    for record in records:
        where = place(record)
        rows = blocks.setdefault(where.block, {})
        runs = rows.setdefault(labels.defense(record.target), [[] for _ in columns])
        runs[position[where.group, column_label(record, labels)]].append(record)
    laid = tuple(Block(label, rows_of(list(rows.values()), labels)) for label, rows in blocks.items())
    settings = {record.setting for record in records} - {"clean"}
    setting: Literal["white-box", "black-box", "both"] = "white-box"
    if "black-box" in settings:
        setting = "both" if len(settings) > 1 else "black-box"
    cells = [cell for block in laid for row in block.rows for cell in row.cells]
    text = caption(setting, records, cells, labels)
    return Table(name, setting, heading, text, columns, laid, defenses=defenses)


def _columns(records: Sequence[Record], labels: Labels, place: Callable[[Record], Place]) -> tuple[Column, ...]:
    """Return the columns, group by group; within a group they follow the order of the matrix."""
    groups: dict[str, dict[str, Column]] = {}
    first = records[0].target.defense.name
    for record in sorted(records, key=lambda record: (_settings(record), record.target.defense.name != first)):
        where, label = place(record), column_label(record, labels)
        attack = None if record.setting == "clean" else record.attack
        groups.setdefault(where.group, {}).setdefault(
            label, Column(label, where.group, label, attack, where.model, where.setting)
        )
    return tuple(column for own in groups.values() for column in own.values())
