"""Modules of the user's own code: imported from a file or by name, as they lie there now."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from segbench.components.imports import GIVEN, files_of, forget
from segbench.components.sources import compiled_anew
from segbench.errors import SegbenchError, failing
from segbench.files import file_sha256, is_file


def from_file(path: Path) -> ModuleType:
    """Run a file of Python code as a module; what goes wrong is one sentence."""
    if not is_file(path):
        raise SegbenchError(f"{path}: there is no such file")
    name = f"{GIVEN}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SegbenchError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look for it here
    forget(module)
    with failing(f"{path}: the file failed"):
        spec.loader.exec_module(module)
    return module


def import_module(name: str) -> ModuleType:
    """Import a module; what goes wrong is one sentence."""
    with failing(f"{name}: cannot be imported"):
        return importlib.import_module(name)


class _Imported(NamedTuple):
    """A module from outside the installed packages that a factory has imported.

    Attributes:
        module: the module.
        folder: the folder that it was looked for in.
        sha256: hash of its source and of what was read when it was imported.
    """

    module: ModuleType
    folder: Path
    sha256: str


_imported: dict[str, _Imported] = {}
_aside: dict[Path, dict[str, _Imported]] = {}
"""Modules by folder whose names mean other files in the folder of the factory that was loaded last."""
by_factory: dict[tuple[Path, str], dict[str, None]] = {}
"""Names of the modules that were imported first for a factory."""


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[list[str]]:
    """Let code import what lies in a folder, after everything that is installed, as it lies there now.

    Modules whose source changed since a factory imported them, or files that they read then, are imported anew. A
    module of another folder is not taken for the one of this folder.

    Yields:
        A list that holds, in the end, the names of the modules that were imported inside.
    """
    _provide(folder)
    entry, known = str(folder), set(sys.modules)
    fresh: list[str] = []
    sys.path.append(entry)
    with compiled_anew():
        try:
            yield fresh
        finally:
            sys.path.remove(entry)
            for name in sorted(set(sys.modules) - known):
                found = _sha256(sys.modules[name])
                if found is not None:
                    fresh.append(name)
                    if not name.startswith(GIVEN):
                        _imported[name] = _Imported(sys.modules[name], folder, found)


def _provide(folder: Path) -> None:
    """Make the modules that factories of a folder imported those that are there, as far as their files are the same."""
    if any(_sha256(one.module) != one.sha256 for one in _imported.values()):
        for name, one in _imported.items():
            sys.modules.pop(name, None)
            forget(one.module)
        _imported.clear()
        by_factory.clear()
    own = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
    for name, one in list(_imported.items()):
        if one.folder != folder and name.partition(".")[0] in own:
            _aside.setdefault(one.folder, {})[name] = _imported.pop(name)
            sys.modules.pop(name, None)
    back = _aside.pop(folder, {})
    if all(_sha256(one.module) == one.sha256 for one in back.values()):
        sys.modules.update((name, one.module) for name, one in back.items())
        _imported.update(back)


def _sha256(module: ModuleType) -> str | None:
    """Return the hash of a module from outside the installed packages; None for others."""
    files = [path for path in files_of(module) if path.is_file()]
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest() if files else None
