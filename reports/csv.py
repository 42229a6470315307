"""The tidy table as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import io

import pandas as pd

_CHUNK = 10_000
_FORMULA = ("=", "+", "-", "@", "\t", "\n")


def to_csv(frame: pd.DataFrame) -> bytes:
    """Write a tidy table as CSV in UTF-8; text that a spreadsheet would take for a formula gets an apostrophe in front.

    Args:
        frame: what `tables.tidy` returns.
    """
    buffer = io.BytesIO()
    for start in range(0, max(1, len(frame)), _CHUNK):
        safe = frame.iloc[start : start + _CHUNK].copy()
        for column in safe.select_dtypes(include=["object", "string"]):
            values = [value for value in safe[column].dropna().unique() if isinstance(value, str)]
            changed = {value: neutral for value in values if (neutral := _neutral(value)) != value}
            if changed:
                safe[column] = safe[column].map(lambda value, changed=changed: changed.get(value, value))
        safe.to_csv(buffer, index=False, header=start == 0, lineterminator="\n")
    return buffer.getvalue()


def _neutral(value: str) -> str:
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # a bare carriage return would not be quoted
    return f"'{text}" if text.startswith(_FORMULA) else text
