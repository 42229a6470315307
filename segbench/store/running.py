"""What runs in a store now: one file for each process, which it writes again and again and removes at its end."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.errors import StoreError
from segbench.files import read_json, write_json
from segbench.store.base import Folder

LOST = 900.0
"""Seconds after which a process of another machine that has written nothing counts as ended."""


def tell(store: Folder, content: Mapping[str, Any]) -> None:
    """Say what this process does; a store that cannot be written hears nothing of it."""
    with contextlib.suppress(StoreError):
        write_json(_file(store), {**content, "machine": platform.node(), "process": os.getpid()})


def forget(store: Folder) -> None:
    """Say that this process has ended."""
    with contextlib.suppress(OSError):
        _file(store).unlink(missing_ok=True)
        _file(store).parent.rmdir()


def running(store: Folder) -> list[dict[str, Any]]:
    """Return what the processes that are at work in a store have told, and leave out those that have ended."""
    found = []
    for path in sorted(_file(store).parent.glob("*.json")):
        with contextlib.suppress(StoreError, OSError, KeyError, TypeError, ValueError):
            content = read_json(path)
            if not path.name.startswith(".") and content is not None and _alive(content, path):
                found.append(content)
    return found


def _alive(content: Mapping[str, Any], path: Path) -> bool:
    if content["machine"] != platform.node():
        return time.time() - path.stat().st_mtime < LOST
    try:
        os.kill(int(content["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _file(store: Folder) -> Path:
    return store.cache_dir / "running" / f"{platform.node() or 'machine'}-{os.getpid()}.json"
