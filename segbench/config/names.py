"""Names of matrices: the store has files and folders of these names."""

from __future__ import annotations

import re
from typing import Any

from segbench.components.values import mistake
from segbench.errors import shown

LONGEST = 100
"""Bytes of a name in UTF-8; files and folders add their own ends to it."""


def wrong_name(name: str) -> str | None:
    """Return why a text cannot name a matrix, or None."""
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        return (
            f"a matrix's name is made of letters, digits, '.', '_' and '-', and begins with no '.', got {shown(name)}"
        )
    if len(name.encode()) > LONGEST:
        return f"a matrix's name has at most {LONGEST} characters, got {len(name.encode())}: {shown(name)}"
    return None


def matrix_name(value: Any) -> str:
    """Return the name of a matrix."""
    if not isinstance(value, str):
        raise mistake(f"expected text, got {shown(value)}; put it in quotes")
    reason = wrong_name(value)
    if reason:
        raise mistake(reason)
    return value


def as_name(text: str) -> str:
    """Return a name of a matrix that resembles a text."""
    name = re.sub(r"[^\w.-]+", "-", text).lstrip(".") or "-"
    return name.encode()[:LONGEST].decode(errors="ignore")
