"""Names of matrices: the store has files and folders of these names."""

from __future__ import annotations

from typing import Any

from segbench.components.values import mistake
from segbench.errors import shown
from segbench.reports.names import LONGEST, RULE, is_name
from segbench.reports.names import as_name as as_name


def wrong_name(name: str) -> str | None:
    """Return why a text cannot name a matrix, or None."""
    if is_name(name):
        return None
    length = len(name.encode(errors="replace"))
    if length > LONGEST:
        return f"a matrix's name has at most {LONGEST} characters, got {length}: {shown(name)}"
    return f"a matrix's name is made of {RULE}, got {shown(name)}"


def matrix_name(value: Any) -> str:
    """Return the name of a matrix."""
    if not isinstance(value, str):
        raise mistake(f"expected text, got {shown(value)}; put it in quotes")
    reason = wrong_name(value)
    if reason:
        raise mistake(reason)
    return value
