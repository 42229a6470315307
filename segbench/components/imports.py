"""The files that a network is made from: read while it is built, or imported by its code, at once or later."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import sys
import sysconfig
import threading
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GIVEN = "segbench_given_"
"""How the names of modules begin that are loaded from a file which the user named."""


Files = dict[Path, None]
"""Paths in the order in which they were read."""

_watches: list[tuple[int, Files]] = []
"""Who listens, by thread: other threads read images meanwhile."""
_read_at_import: dict[Path, Files] = {}
"""Files that were read while a module was imported, by its source: a module that is there is not imported again."""


@contextmanager
def watched() -> Iterator[Files]:
    """Collect the files outside the installed packages that this thread reads inside through Python's `open`."""
    _hook()
    files: Files = {}
    watch = (threading.get_ident(), files)
    _watches.append(watch)
    try:
        yield files
    finally:
        _watches[:] = [other for other in _watches if other is not watch]


def files_of(module: types.ModuleType) -> Files:
    """Return the source of a module from outside the installed packages and what was read when it was imported."""
    source = local_source(module)
    return {} if source is None else {source: None, **_read_at_import.get(source, {})}


def forget(module: types.ModuleType) -> None:
    """Forget what was read when a module was imported, which is about to be imported anew."""
    _read_at_import.pop(local_source(module) or Path(), None)


def used(start: Iterable[types.ModuleType]) -> Files:
    """Return the files of modules from outside the installed packages, and of all such modules that they use.

    What a source imports counts whether it was imported yet or not: functions may import when they are called.
    """
    found: Files = {}
    left = [(module.__name__, path) for module in start if (path := local_source(module)) is not None]
    while left:
        name, path = left.pop()
        if path in found:
            continue
        found.update({path: None, **_read_at_import.get(path, {})})
        module = sys.modules.get(name)
        own = module is not None and local_source(module) == path
        values = list(vars(module).values()) if own else []
        modules = [value.__name__ for value in values if isinstance(value, types.ModuleType)]
        owners = [owner for value in values if isinstance(owner := getattr(value, "__module__", None), str)]
        for other in (*_imported_names(name, path), *modules, *owners):
            source = _source(other, _root(name, path))
            if source is not None:
                left.append((other, source))
    return found


def _root(name: str, path: Path) -> Path:
    """Return the folder in which the top-level package of a module lies."""
    depth = 1 if name.startswith(GIVEN) else len(name.split(".")) + (path.stem == "__init__")
    return path.parents[min(depth, len(path.parents)) - 1]


def _source(name: str, root: Path) -> Path | None:
    """Return the file of a module from outside the installed packages, imported or not."""
    module = sys.modules.get(name)
    if module is not None:
        return local_source(module)
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    base = root.joinpath(*name.split("."))
    found = [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
    return found[0].resolve() if found else None


def _imported_names(name: str, path: Path) -> Iterator[str]:
    """Yield the names of what a source imports, anywhere in it, whether a module or a member of one."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes() if path.suffix == ".py" else b"")
    except (SyntaxError, ValueError):  # a file beside that nothing can import
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def local_source(module: types.ModuleType) -> Path | None:
    """Return the file of a module from outside the installed packages, or None."""
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) and _outside(file) else None


def _outside(file: str) -> bool:
    """Whether a file lies outside of Python, its packages, segbench and the system's own folders."""
    path = os.path.realpath(file)
    return not any(path == root or path.startswith(root + os.sep) for root in _inside())


@functools.cache
def _inside() -> tuple[str, ...]:
    own = ("segbench", *(f"segbench.{name}" for name in ("attacks", "defenses", "model_zoo", "reports")))
    packages = [folder for name in own for folder in importlib.import_module(name).__path__]
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    site = [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
    # Not the whole prefix: it is /usr for a system's Python, and people work in /usr/src/app.
    prefix = [os.path.join(sys.prefix, name) for name in ("bin", "etc", "include", "lib", "lib64", "share")]
    roots = [*packages, *named, *site, *prefix, "/proc", "/sys", "/dev"]
    return tuple(dict.fromkeys(os.path.realpath(root) for root in roots if root))


def _being_imported() -> list[Path] | None:
    """Return the sources of the modules from outside the installed packages whose import has not ended.

    None where what is read is no part of a network: installed packages read files when they are imported, once in a
    process, warnings quote lines of source files, and segbench hashes files itself.
    """
    found = []
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        name, file = frame.f_globals.get("__name__"), frame.f_globals.get("__file__")
        if name in ("linecache", "segbench.files"):
            return None
        if frame.f_code.co_name == "<module>" and isinstance(file, str) and name != "__main__":
            if not _outside(file):
                return None
            found.append(Path(file).resolve())
        frame = frame.f_back
    return found


@functools.cache
def _hook() -> None:
    """Install the audit hook that tells watches of files; Python cannot remove one again."""

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if not _watches or event != "open":
            return
        name, _, flags = arguments
        if not isinstance(name, str | os.PathLike) or (isinstance(flags, int) and flags & os.O_ACCMODE != os.O_RDONLY):
            return
        path = os.fspath(name)
        if isinstance(path, str) and not path.endswith(".pyc") and _outside(path):
            mine = [files for thread, files in _watches if thread == threading.get_ident()]
            imports = _being_imported() if mine else None
            if imports is not None:
                for files in (*mine, *(_read_at_import.setdefault(source, {}) for source in imports)):
                    files[Path(os.path.realpath(path))] = None

    sys.addaudithook(heard)
