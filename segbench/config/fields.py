"""What every field of a matrix is marked with, and the base of the models that hold such fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

IDENTITY = "identity"
"""Marks a field that can change the numbers: it is part of the digest."""
RUNTIME = "runtime"
"""Marks a field that says how or where cells run: it is not part of the digest."""
LAYOUT = "layout"
"""Marks a field that says which cells there are, or how they are shown."""


class Frozen(BaseModel):
    """Immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
