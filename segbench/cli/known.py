"""What there is, described: remembered from one start to the next, since to find components is to import torch.

What is remembered counts for the same files of segbench, the same packages with components, and the same plugins.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

from segbench.errors import StoreError
from segbench.files import cache_folder, read_sealed, write_sealed

WAYS = ("torchvision:", "smp:", "hf:", "mmseg:", "sea:", "onnx:")
"""Beginnings of what names a network that is not one of segbench's architectures."""
KINDS = ("attack", "defense", "model", "dataset", "protocol")


class Known(TypedDict):
    """What there is.

    Attributes:
        components: by kind and name: kind, name, version, module, summary, description, options, source and departs.
        matrices: titles of the built-in matrices by name.
        refused: sentences about plugins that are left out.
    """

    components: dict[str, dict[str, dict[str, Any]]]
    matrices: dict[str, str]
    refused: list[str]


def known() -> Known:
    """Return what there is, from what is remembered if that is current."""
    key = _key()
    place = f"known/{key}.json"
    file = cache_folder() / place
    try:
        found: Any = None if key is None else read_sealed(file, place)
    except StoreError:
        found = None
    if found is None:
        found = _found()
        if key is not None:
            _remember(file, place, found)
    return {"components": found["components"], "matrices": found["matrices"], "refused": found["refused"]}


def matrix_names() -> list[str]:
    """Return the names of the built-in matrices, without reading them."""
    names = (entry.name for entry in (files("segbench") / "matrices").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def complete_matrix(incomplete: str) -> list[str]:
    """Complete the name of a built-in matrix, or of a matrix file here."""
    beside = [path.name for path in Path().glob("*.y*ml")]
    return [name for name in (*matrix_names(), *sorted(beside)) if name.startswith(incomplete)]


def complete_name(incomplete: str) -> list[tuple[str, str]]:
    """Complete the name of a component or a built-in matrix."""
    found = known()
    named = {name: one["summary"] for own in found["components"].values() for name, one in own.items()}
    return [(name, told) for name, told in {**named, **found["matrices"]}.items() if name.startswith(incomplete)]


def completing(kind: str, also: Sequence[str] = ()) -> Callable[[str], list[tuple[str, str]]]:
    """Return a function that completes the name of a component of a kind, or one of some other words."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        named = {name: one["summary"] for name, one in known()["components"][kind].items()}
        return [
            (name, told) for name, told in {**named, **dict.fromkeys(also, "")}.items() if name.startswith(incomplete)
        ]

    return complete


def described(component: Any) -> dict[str, Any]:
    """Return what there is to know of a component, as data; the default of a required option is null."""
    from segbench.components import docstrings, specs

    parts = docstrings.split(component.doc)
    return {
        "kind": component.kind,
        "name": component.name,
        "version": component.version,
        "module": component.module,
        "summary": component.summary,
        "description": parts.prose,
        "options": {
            name: {
                "default": None if p.default is inspect.Parameter.empty else specs.text(p.default),
                "required": p.default is inspect.Parameter.empty,
                "meaning": parts.arguments.get(name, ""),
            }
            for name, p in component.options.items()
        },
        "source": parts.source,
        "departs": parts.departs,
    }


def _found() -> Known:
    from segbench.components import catalog
    from segbench.config.load import builtin_matrices

    components = {
        kind: {name: described(one) for name, one in catalog.components(kind).items()} for kind in catalog.PACKAGES
    }
    return {"components": components, "matrices": builtin_matrices(), "refused": list(catalog.refused())}


def _remember(file: Path, place: str, found: Known) -> None:
    try:
        write_sealed(file, dict(found), place)
        for other in file.parent.iterdir():
            if other != file:
                other.unlink()
    except (OSError, StoreError):  # a home that cannot be written: then it is found anew each time
        return


def _key() -> str | None:
    """Hash what the catalog depends on; None where plugins may change from one start to the next."""
    from segbench.components.plugins import ENTRY_POINT_GROUP, VARIABLE

    if os.environ.get(VARIABLE) or list(entry_points(group=ENTRY_POINT_GROUP)):
        return None
    lines = [sys.version, sys.prefix]
    for package in ("segbench", *(f"segbench.{name}" for name in ("attacks", "defenses", "model_zoo"))):
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted((*Path(folder).rglob("*.py"), *Path(folder).rglob("*.yaml"))):
                state = path.stat()
                lines.append(f"{path} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]
