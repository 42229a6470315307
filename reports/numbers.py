"""Numbers as text: "0.03", "8/255"."""

from __future__ import annotations

LARGEST_FRACTION = 1000
"""Numbers up to this are written in 255ths where they are some."""


def number(value: float | None) -> str:
    """Return a number as `exact` writes it, else with four significant digits; "none" for None."""
    return "none" if value is None else exact(value) or f"{value:.4g}"


def exact(value: float) -> str | None:
    """Return a short text that stands for exactly this number: "0.03", or "8/255"; None where there is none."""
    decimal = f"{value:g}"
    return decimal if float(decimal) == value and len(decimal) <= 6 else in_255ths(value)


def in_255ths(value: float) -> str | None:
    """Return a positive whole number of 255ths as a fraction, such as "8/255"; None for any other number."""
    parts = round(value * 255) if abs(value) <= LARGEST_FRACTION else 0
    return f"{parts}/255" if parts > 0 and parts / 255 == value else None
