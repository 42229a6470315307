"""Numbers as text: "0.03", "8/255"."""

from __future__ import annotations


def number(value: float | None) -> str:
    """Return a number as `exact` writes it, else with four significant digits; "none" for None."""
    return "none" if value is None else exact(value) or f"{value:.4g}"


def exact(value: float) -> str | None:
    """Return a short text that stands for exactly this number: "0.03", or "8/255"; None where there is none."""
    decimal = f"{value:g}"
    return decimal if float(decimal) == value and len(decimal) <= 6 else in_255ths(value)


def in_255ths(value: float) -> str | None:
    """Return a whole number of 255ths as a fraction, such as "8/255"; None for any other number."""
    parts = value * 255
    return f"{round(parts)}/255" if abs(parts - round(parts)) < 1e-9 else None
