"""Components that are not segbench's own: in files and modules that the user names, and in installed packages.

The user names them in a matrix, with --plugin, or in the variable SEGBENCH_PLUGINS, through which new processes get
them too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from segbench.components.imports import local_source, used
from segbench.components.modules import from_file, import_module, importable
from segbench.components.sources import compiled_anew, package_sha256
from segbench.errors import SegbenchError
from segbench.files import file_sha256

VARIABLE = "SEGBENCH_PLUGINS"
ENTRY_POINT_GROUP = "segbench.components"
"""A package on the path may name its modules under this group; their tagged components join the catalog."""


class Plugin(NamedTuple):
    """A module that may hold components.

    Attributes:
        module: the module.
        source: hash of the code that it consists of.
    """

    module: ModuleType
    source: str


def add(written: str, folder: Path) -> bool:
    """Let this process, and those that it starts, know a plugin; return whether it is new.

    Args:
        written: a file of Python code, or the name of a module.
        folder: where a relative file lies, and modules beside those that are installed.

    Raises:
        SegbenchError: it cannot be imported.
    """
    named = str((folder / written).resolve()) if written.endswith(".py") else written
    if named in _named():
        return False
    _imported(named, folder)
    os.environ[VARIABLE] = os.pathsep.join([*_named(), named])
    return True


def found() -> Iterator[Plugin | str]:
    """Import all plugins; yield a sentence in place of one that cannot be imported."""
    for named in _named():
        try:
            yield _imported(named, Path())
        except SegbenchError as error:
            yield f"plugin {error}"
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            with compiled_anew():
                module = import_module(point.value)
        except SegbenchError as error:
            yield f"plugin {error}"
        else:
            yield Plugin(module, package_sha256(point.value))


_plugins: dict[str, Plugin] = {}


def _named() -> list[str]:
    return [named for named in os.environ.get(VARIABLE, "").split(os.pathsep) if named]


def _imported(named: str, folder: Path) -> Plugin:
    """Import a plugin, once in a process."""
    if named not in _plugins:
        path = Path(named)
        inside = path.parent if path.suffix == ".py" else folder.resolve()
        with importable(inside):
            module = from_file(path) if path.suffix == ".py" else import_module(named)
        _plugins[named] = Plugin(module, _sha256(module))
    return _plugins[named]


def _sha256(module: ModuleType) -> str:
    """Hash the code of a plugin: of its own files, wherever they lie, or of its installed package."""
    if (own := local_source(module)) is None:
        return package_sha256(module.__name__)
    lines = sorted(f"{os.path.relpath(path, own.parent)} {file_sha256(path)}" for path in used([module]))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
