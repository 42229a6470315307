"""The source of code that is not segbench's own: imported as it lies there, and hashed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from segbench.files import file_sha256


@contextlib.contextmanager
def compiled_anew() -> Iterator[None]:
    """Let modules be compiled from their source.

    Python's own cache of compiled modules takes a file of equal size and time for the same.
    """
    prefix, silent = sys.pycache_prefix, sys.dont_write_bytecode
    importlib.invalidate_caches()
    with tempfile.TemporaryDirectory() as compiled:
        sys.pycache_prefix, sys.dont_write_bytecode = compiled, True
        try:
            yield
        finally:
            sys.pycache_prefix, sys.dont_write_bytecode = prefix, silent


def package_sha256(module: str) -> str:
    """Hash every file of Python code in the top-level package of an imported module, whatever its folder."""
    top = sys.modules[module.partition(".")[0]]
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    found = [(str(path.relative_to(folder)), path) for folder in folders for path in folder.rglob("*.py")]
    if not folders and (file := getattr(top, "__file__", None)):
        found = [("", Path(file))]
    lines = sorted(f"{name} {file_sha256(path)}" for name, path in found)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
