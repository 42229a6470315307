"""Rows as CSV, for spreadsheets and for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\n")


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
    writer.writerows([_safe(value) for value in row] for row in rows)
    return buffer.getvalue()


def _safe(value: Any) -> Any:
    if isinstance(value, str) and (value.startswith(_FORMULA) or "\r" in value):
        text = value.replace("\r\n", "\n").replace("\r", "\n")  # the writer does not quote a single carriage return
        return f"'{text}" if text.startswith(_FORMULA) else text
    return None if isinstance(value, float) and value != value else value
