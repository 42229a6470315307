"""The marks of the fields of a matrix: what each field decides."""

from __future__ import annotations

IDENTITY = "identity"
"""Marks a field that can change the numbers: it is part of the digest."""
RUNTIME = "runtime"
"""Marks a field that says how or where cells run: it is not part of the digest."""
LAYOUT = "layout"
"""Marks a field that says which cells there are, or how they are shown."""
