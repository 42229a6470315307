"""Files: written whole or not at all, hashed, and locked."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from segbench.errors import StoreError
from segbench.reports.atomic import write

LOCK_PATIENCE = 10.0
"""Seconds to wait for a lock: a process that was just killed lets go of its own within them."""


def acquire(lock: FileLock, what: str) -> None:
    """Take a lock, or say that another process keeps it."""
    try:
        lock.acquire(timeout=LOCK_PATIENCE)
    except Timeout as error:
        raise StoreError(f"{what}: another segbench process is working on it in this store") from error


def file_sha256(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object, or None where there is no file.

    Raises:
        StoreError: the file is not JSON.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); delete its folder to make it again") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: not a JSON object; delete its folder to make it again")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; see `segbench.reports.atomic.write`."""
    write(path, content)


def cache_folder() -> Path:
    """Return where this user's caches lie: SEGBENCH_CACHE, or segbench in the system's cache folder."""
    given = os.environ.get("SEGBENCH_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segbench"
