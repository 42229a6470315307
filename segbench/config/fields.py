"""The marks of the fields of a matrix: what each field decides.

A field that holds a number, a truth value, a text or a path has a type of `segbench.components.values`: pydantic on its
own takes `true` for 1, "3" for 3 and 1 for true.
"""

from __future__ import annotations

IDENTITY = "identity"
"""Marks a field that can change the numbers: it is part of the digest."""
RUNTIME = "runtime"
"""Marks a field that says how or where cells run: it is not part of the digest."""
LAYOUT = "layout"
"""Marks a field that says which cells there are, or how they are shown."""
