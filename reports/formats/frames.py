"""Records and tables as rows, and as data frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from segbench.reports.labels import Labels, canonical
from segbench.reports.metrics.registry import STANDARD
from segbench.reports.records import Record
from segbench.reports.tables.grid import Cell, Column, Table
from segbench.reports.tables.layouts import row_label

if TYPE_CHECKING:
    import pandas as pd

INTEGERS = ("limit", "seed", "source_seed", "attack_seed", "steps", "n_images", "forward", "backward")
YES_OR_NO = ("adaptive", "dynamic")
FURTHER = tuple(own.name for own in STANDARD if own.name not in ("miou", "macc", "aacc"))
"""Names of the metrics that do not stand in the scores of a record."""
NUMBERS = ("eps", "budget_used", "miou", "miou_low", "miou_high", "macc", "aacc")


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """Return a data frame with one row per record, in the order of the records.

    Metrics are in per cent, eps and budget_used in [0, 1] units; options and recipes are JSON. A value that a record
    lacks is missing.

    Args:
        records: the records.
    """
    import pandas as pd

    frame = pd.DataFrame(rows(records), columns=list(COLUMNS))
    for column in INTEGERS:
        frame[column] = frame[column].astype("Int64")
    for column in (*NUMBERS, *FURTHER):
        frame[column] = frame[column].astype("float64")
    for column in YES_OR_NO:
        frame[column] = frame[column].astype("boolean")
    return frame


def rows(records: Iterable[Record]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each record for `COLUMNS`, None where it has none; see `tidy`."""
    shared = _shared()
    for record in records:
        yield _row(record, shared)


def plain(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return the rows of `tidy` as data for JSON: options, recipes and the like as objects, flags as a list.

    Args:
        records: the records.
    """
    frame = tidy(records)
    cleared = frame.astype(object).where(frame.notna(), None)
    found = [dict(zip(COLUMNS, values, strict=True)) for values in cleared.itertuples(index=False)]
    for row in found:
        row.update({name: json.loads(row[name]) for name in WRITTEN if row[name] is not None})
        row["flags"] = row["flags"].split()
    return found


def cells(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Return a row of values by name for each cell of the tables; components have the names of the catalog.

    Args:
        tables: the tables.
    """
    plain = Labels([run for table in tables for *_, cell in table.cells for run in cell.records])
    return [
        {
            "table": table.name,
            "heading": table.heading,
            "setting": column.setting or table.setting,
            "model": model,
            "defense": defense,
            "attack": "clean" if column.attack is None else plain.component("attack", column.attack),
            "metric": column.metric,
            "state": cell.state,
            "mean": cell.mean,
            "std": cell.std,
            "low": cell.low,
            "high": cell.high,
            "done": cell.done,
            "expected": cell.expected,
            "rank": cell.rank or None,
            "significant": cell.significant,
            "published_mean": cell.published.mean if cell.published else None,
            "published_std": cell.published.std if cell.published else None,
            "difference": cell.difference,
            "published_note": cell.published.note if cell.published else None,
        }
        for table in tables
        for model, defense, column, cell in _plain_cells(table, plain)
    ]


def _plain_cells(table: Table, plain: Labels) -> Iterator[tuple[str, str, Column, Cell]]:
    """Yield every cell with the plain labels of its model and its row."""
    for block in table.blocks:
        of_column = {
            column.model: plain.model(run.target)
            for row in block.rows
            for column, cell in zip(table.columns, row.cells, strict=True)
            for run in cell.records
        }
        for row in block.rows:
            runs = [run for cell in row.cells for run in cell.records]
            defense = row_label(runs[0], plain) if runs else row.name or row.label
            for column, cell in zip(table.columns, row.cells, strict=True):
                yield of_column.get(column.model, column.model or block.label), defense, column, cell


def _shared() -> Callable[[Mapping[str, Any]], str]:
    """Return a function that writes data as JSON once per object, because many records share their options."""
    known: dict[int, tuple[Mapping[str, Any], str]] = {}

    def text(value: Mapping[str, Any]) -> str:
        if not value:
            return "{}"
        found = known.get(id(value))
        if found is None:
            found = known[id(value)] = value, canonical(dict(value))
        return found[1]

    return text


def _row(record: Record, shared: Callable[[Mapping[str, Any]], str]) -> tuple[Any, ...]:
    scores = record.scores
    values = {
        "dataset": record.dataset.name,
        "dataset_options": shared(record.dataset.options),
        "data_fingerprint": record.data_fingerprint,
        "split": record.split,
        "limit": record.limit,
        "protocol": record.protocol.short,
        "absent": record.absent,
        "model": record.target.model.name,
        "model_options": shared(record.target.model.options),
        "defense": record.target.defense.name,
        "defense_options": shared(record.target.defense.options),
        "recipe": shared(record.target.recipe),
        "seed": record.target.seed,
        "setting": record.setting,
        "adaptive": record.adaptive,
        "dynamic": record.dynamic,
        "source_model": record.source.model.name,
        "source_model_options": shared(record.source.model.options),
        "source_defense": record.source.defense.name,
        "source_defense_options": shared(record.source.defense.options),
        "source_seed": record.source.seed,
        "attack": record.attack.short,
        "attack_options": shared(record.attack.options),
        "attack_seed": record.seed,
        "norm": record.threat.norm,
        "eps": record.threat.eps,
        "access": record.threat.access,
        "steps": record.attack.options.get("steps"),
        "budget_used": record.budget_used,
        "forward": record.passes.get("forward"),
        "backward": record.passes.get("backward"),
        "n_images": record.n_images,
        "miou": scores.miou if scores else None,
        "miou_low": scores.miou_low if scores else None,
        "miou_high": scores.miou_high if scores else None,
        "macc": scores.macc if scores else None,
        "aacc": scores.aacc if scores else None,
        **{name: record.metrics.get(name) for name in FURTHER},
        "tallied": " ".join(record.tallied),
        "class_iou": canonical(dict(zip(record.classes, scores.class_iou, strict=False))) if scores else None,
        "status": record.status,
        "flags": " ".join(record.flags),
        "error": record.error,
        "extras": shared(record.extras),
        "weights_sha256": record.target.weights_sha256,
        "source_weights_sha256": record.source.weights_sha256,
        "digest": record.digest,
    }
    return _IN_ORDER(values)  # type: ignore[no-any-return]


COLUMNS = (
    *("dataset", "dataset_options", "data_fingerprint", "split", "limit", "protocol", "absent"),
    *("model", "model_options", "defense", "defense_options", "recipe", "seed", "setting", "adaptive", "dynamic"),
    *("source_model", "source_model_options", "source_defense", "source_defense_options", "source_seed"),
    *("attack", "attack_options", "attack_seed", "norm", "eps", "access", "steps", "budget_used"),
    *("forward", "backward"),
    *("n_images", "miou", "miou_low", "miou_high", "macc", "aacc", "class_iou", *FURTHER, "tallied"),
    *("status", "flags", "error", "extras", "weights_sha256", "source_weights_sha256", "digest"),
)
"""Columns of `tidy`, in order."""
_IN_ORDER = itemgetter(*COLUMNS)

WRITTEN = (*(name for name in COLUMNS if name.endswith("_options")), "recipe", "class_iou", "extras")
"""Columns of `tidy` that hold JSON."""

CELL_COLUMNS = (
    *("table", "heading", "setting", "model", "defense", "attack", "metric", "state", "mean", "std", "low", "high"),
    *("done", "expected", "rank", "significant", "published_mean", "published_std", "difference", "published_note"),
)
"""Columns of `cells`, in order."""
