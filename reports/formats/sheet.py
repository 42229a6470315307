"""Rows as CSV, for spreadsheets and for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = frozenset("=+-@\t\n")


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return rows as CSV in UTF-8; text that a spreadsheet would run as a formula gets a leading apostrophe.

    Args:
        columns: names of the columns.
        rows: for each row its values: text, numbers, True, False, or None where one is missing.
    """
    buffer = io.BytesIO()
    text = io.TextIOWrapper(buffer, "utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        # Few of many millions of values need a change: a call for each would take longer than all the rest.
        [_safe(v) if v != v or (isinstance(v, str) and (v[:1] in _FORMULA or "\r" in v)) else v for v in row]
        for row in rows
    )
    return buffer.getvalue()


def _safe(value: Any) -> Any:
    if value != value:
        return None
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # the writer does not quote a single carriage return
    return f"'{text}" if text[:1] in _FORMULA else text
