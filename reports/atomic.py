"""Atomic file writes: a reader never sees half a file."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees either the whole old file or the whole new one, even after a crash.

    Args:
        path: the file; a missing folder is created.
        content: text is written in UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
