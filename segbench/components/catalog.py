"""Every component by name: found by walking the packages and the entry points, never listed by hand."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType, ModuleType
from typing import Any

from segbench.components.sources import compiled_anew, package_sha256
from segbench.errors import SegbenchError

PACKAGES = {
    "attack": "segbench.attacks",
    "defense": "segbench.defenses",
    "model": "segbench.model_zoo",
    "dataset": "segbench.datasets",
    "protocol": "segbench.protocols",
}
OWN_DATASET = "folder"
"""The dataset that reads folders of the user's own; a name that one of them says is declared to mean it."""
ENTRY_POINT_GROUP = "segbench.components"
"""A package on the path may name its modules under this group; their tagged components join the catalog."""


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
        module: where it is defined.
        source: hash of the package that it comes from; None for those of segbench, whose versions tell.
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
    known = _all()[kind]
    if kind != "dataset" or not _own_names:
        return known
    own = {name: replace(known[OWN_DATASET], name=name) for name in sorted(_own_names)}
    return MappingProxyType({**own, **known})


def declare_dataset(name: str) -> None:
    """Let a name mean a dataset of the user's own, as its `dataset.yaml` says it, from now on in this process."""
    if name not in _all()["dataset"]:
        _own_names.add(name)


def find(kind: str, name: str) -> Definition:
    """Return one component; an unknown name is an error that says what was probably meant."""
    known = components(kind)
    if name not in known:
        raise SegbenchError(unknown(kind, name, known))
    return known[name]


def unknown(what: str, name: str, known: Mapping[str, Any]) -> str:
    """Say that a name is not known, and which one was probably meant."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"there is no {what} {name!r}; {hint}"


@cache
def _all() -> Mapping[str, Mapping[str, Definition]]:
    found: dict[str, dict[str, Definition]] = {kind: {} for kind in PACKAGES}
    for module, source in _modules():
        for value in vars(module).values():
            tag = getattr(value, "tag", value)
            kind = getattr(tag, "kind", None)
            if kind not in PACKAGES or getattr(value, "__module__", None) != module.__name__:
                continue
            if tag.name in found[kind]:
                other = found[kind][tag.name].module
                raise SegbenchError(
                    f"{module.__name__}: the {kind} {tag.name!r} is defined in {other} already; rename one"
                )
            options = _options(value, _context(kind))
            found[kind][tag.name] = Definition(kind, tag.name, tag.version, value, options, module.__name__, source)
    return MappingProxyType({kind: MappingProxyType(dict(sorted(d.items()))) for kind, d in found.items()})


def _modules() -> Iterator[tuple[ModuleType, str | None]]:
    """Yield every module that may hold components, with the hash of its source where that is not segbench's."""
    for package in PACKAGES.values():
        for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
            yield importlib.import_module(f"{package}.{info.name}"), None
    for point in entry_points(group=ENTRY_POINT_GROUP):
        with compiled_anew():
            module = importlib.import_module(point.value)
        yield module, package_sha256(point.value)


def _context(kind: str) -> tuple[str, ...]:
    """Names of the parameters that the harness fills in, from the contract of the kind."""
    base = importlib.import_module(f"{PACKAGES[kind]}.base")
    return tuple(getattr(base, "CONTEXT", ()))


def _options(value: Any, context: tuple[str, ...]) -> Mapping[str, inspect.Parameter]:
    function = getattr(value, "function", value)
    parameters = inspect.signature(function, eval_str=True).parameters
    return MappingProxyType({name: p for name, p in parameters.items() if name not in context})
