"""The tidy table as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\n")


def to_csv(frame: pd.DataFrame) -> str:
    """Write a tidy table as CSV; text that a spreadsheet would take for a formula gets an apostrophe in front.

    Args:
        frame: what `tables.tidy` returns.
    """
    safe = frame.copy()
    for column in safe.select_dtypes(include=["object", "string"]):
        safe[column] = safe[column].map(_neutral, na_action="ignore")
    return safe.to_csv(index=False, lineterminator="\n")


def _neutral(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # a bare carriage return would not be quoted
    return f"'{text}" if text.startswith(_FORMULA) else text
