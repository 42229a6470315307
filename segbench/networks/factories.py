"""Networks of the user's own code: file.py:factory and package.module:factory."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

from segbench.components import catalog
from segbench.components.sources import compiled_anew
from segbench.config.network import Convention
from segbench.errors import SegbenchError
from segbench.files import file_sha256, is_file
from segbench.networks.loaded import Loaded, failing, with_weights
from segbench.networks.sources import GIVEN, files_of, forget
from segbench.networks.walk import networks_within


class FunctionNetwork(nn.Module):
    """A function as a network: the networks inside it are in eval mode, move to devices and have a state as its parts.

    Args:
        function: images -> output.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.inside = nn.ModuleList(networks_within(function))

    def forward(self, images: Tensor) -> Any:
        """Call the function."""
        return self.function(images)


def as_network(made: Any) -> nn.Module:
    """Return a network, or a function as one."""
    return made if isinstance(made, nn.Module) else FunctionNetwork(made)


def from_factory(module: str, name: str, weights: str | None, num_classes: int | None) -> Loaded:
    """Run a factory of the user's code, or take a network or a class that it names.

    Raises:
        SegbenchError: there is no such name, or the code fails.
    """
    spec = f"{module}:{name}"
    path = Path(module)
    folder = (path.parent if path.suffix == ".py" else Path()).resolve()
    with _importable(folder) as fresh:
        found = _from_file(path) if path.suffix == ".py" else _import(module)
        if not hasattr(found, name):
            names = {key: None for key, value in vars(found).items() if callable(value) and not key.startswith("_")}
            raise SegbenchError(f"{spec}: {catalog.unknown('function or class', name, names)}")
        made = getattr(found, name)
        takes_weights = False
        if not isinstance(made, nn.Module):
            known = {"num_classes": num_classes, "weights": weights}
            with failing(f"{spec}: the factory failed"):
                parameters = inspect.signature(made).parameters
                takes_weights = weights is not None and "weights" in parameters
                made = made(**{key: value for key, value in known.items() if key in parameters and value is not None})
    if not callable(made):
        raise SegbenchError(f"{spec}: the factory returned a {type(made).__name__}, not a network")
    if weights is not None and not takes_weights and not isinstance(made, nn.Module):
        raise SegbenchError(f"{weights}: weights need an nn.Module, got a {type(made).__name__}")
    network = as_network(made)
    names = _by_factory.setdefault((folder, spec), {found.__name__: None})
    names.update(dict.fromkeys(fresh))
    modules = tuple(sys.modules[own] for own in names if own in sys.modules)
    loaded = Loaded(network, Convention(), {"factory": name}, modules=modules)
    return loaded if takes_weights else with_weights(loaded, weights)


def _from_file(path: Path) -> ModuleType:
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


def _import(name: str) -> ModuleType:
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
_by_factory: dict[tuple[Path, str], dict[str, None]] = {}
"""Names of the modules that were imported first for a factory."""


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[list[str]]:
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
        _by_factory.clear()
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
