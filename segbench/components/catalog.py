"""Every component by name: found by walking the packages and the entry points, never listed by hand."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from segbench.components import plugins
from segbench.components.imports import GIVEN
from segbench.errors import SegbenchError, unknown

PACKAGES = {
    "attack": "segbench.attacks",
    "defense": "segbench.defenses",
    "model": "segbench.model_zoo",
    "dataset": "segbench.datasets",
    "protocol": "segbench.protocols",
}
OWN_DATASET = "folder"
"""The dataset that reads folders of the user's own; a name that one of them says is declared to mean it."""

_own_names: set[str] = set()


@dataclass(frozen=True)
class Definition:
    """The definition of a component: its tagged function or class.

    Attributes:
        kind: "attack", "defense", "model", "dataset" or "protocol".
        name: what matrices and tables call it.
        version: raised by its author when the same options give other numbers.
        object: the function or class itself.
        options: its options by name, in the order of the signature, without what the harness fills in.
        module: where it is defined: a module, or a file that the user named.
        source: hash of the package or the files that it comes from; None for those of segbench, whose versions tell.
    """

    kind: str
    name: str
    version: int
    object: Any
    options: Mapping[str, inspect.Parameter]
    module: str
    source: str | None = None

    @property
    def doc(self) -> str:
        """The docstring, dedented."""
        return inspect.cleandoc(getattr(self.object, "__doc__", None) or "")

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.partition("\n")[0]


def components(kind: str) -> Mapping[str, Definition]:
    """Return every component of a kind by name, sorted; among datasets also the names that were declared."""
    known = _all().components[kind]
    if kind != "dataset" or not _own_names:
        return known
    own = {name: replace(known[OWN_DATASET], name=name) for name in sorted(_own_names)}
    return MappingProxyType({**own, **known})


def declare_dataset(name: str) -> None:
    """Let a name mean a dataset of the user's own, as its `dataset.yaml` says it, from now on in this process."""
    if name not in _all().components["dataset"]:
        _own_names.add(name)


def find(kind: str, name: str) -> Definition:
    """Return one component; an unknown name is an error that says what was probably meant."""
    known = components(kind)
    if name not in known:
        missing = "".join(f"; {sentence}" for sentence in refused())
        raise SegbenchError(f"{unknown(kind, name, known)}{missing}")
    return known[name]


def add_plugins(written: Iterable[str], folder: Path = Path()) -> None:
    """Let the components of plugins join the catalog.

    Args:
        written: files of Python code, or names of modules.
        folder: where relative files lie.

    Raises:
        SegbenchError: one cannot be imported, or gives a name to a component that another one has.
    """
    if any([plugins.add(one, folder) for one in written]):
        _all.cache_clear()
        if _all().refused:
            raise SegbenchError(_all().refused[-1])


def refused() -> tuple[str, ...]:
    """Say which plugins are not in the catalog and why, a sentence each."""
    return _all().refused


class _Catalog(NamedTuple):
    """All components by kind and name, and the plugins that are left out."""

    components: Mapping[str, Mapping[str, Definition]]
    refused: tuple[str, ...]


@cache
def _all() -> _Catalog:
    found: dict[str, dict[str, Definition]] = {kind: {} for kind in PACKAGES}
    for package in PACKAGES.values():
        for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
            _join(found, importlib.import_module(f"{package}.{info.name}"), None)
    refused = []
    for plugin in plugins.found():
        try:
            if isinstance(plugin, str):
                raise SegbenchError(plugin)
            _join(found, plugin.module, plugin.source)
        except SegbenchError as error:
            refused.append(str(error))
    ordered = {kind: MappingProxyType(dict(sorted(own.items()))) for kind, own in found.items()}
    return _Catalog(MappingProxyType(ordered), tuple(refused))


def _join(found: dict[str, dict[str, Definition]], module: ModuleType, source: str | None) -> None:
    """Add the components of a module: all, or none where one has the name of another.

    Args:
        found: components by kind and name.
        module: the module.
        source: hash of its code; None for segbench's own.
    """
    own = []
    where = str(module.__file__) if module.__name__.startswith(GIVEN) else module.__name__
    for value in vars(module).values():
        tag = getattr(value, "tag", value)
        kind = getattr(tag, "kind", None)
        if kind not in PACKAGES or getattr(value, "__module__", None) != module.__name__:
            continue
        if tag.name in found[kind]:
            other = found[kind][tag.name].module
            raise SegbenchError(f"{where}: the {kind} {tag.name!r} is defined in {other} already; rename one")
        own.append(Definition(kind, tag.name, tag.version, value, _options(value, _context(kind)), where, source))
    for definition in own:
        found[definition.kind][definition.name] = definition


def _context(kind: str) -> tuple[str, ...]:
    """Names of the parameters that the harness fills in, from the contract of the kind."""
    base = importlib.import_module(f"{PACKAGES[kind]}.base")
    return tuple(getattr(base, "CONTEXT", ()))


def _options(value: Any, context: tuple[str, ...]) -> Mapping[str, inspect.Parameter]:
    function = getattr(value, "function", value)
    parameters = inspect.signature(function, eval_str=True).parameters
    return MappingProxyType({name: p for name, p in parameters.items() if name not in context})
