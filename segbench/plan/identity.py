"""What identifies a piece of work: a hash of all that can change its numbers, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from pathlib import Path
from types import MappingProxyType
from typing import Any

from segbench.components import catalog
from segbench.components.catalog import Definition
from segbench.components.specs import Bound
from segbench.files import file_sha256, is_file
from segbench.reports.records import Component

FILE_OPTIONS = ("backbone", "region", "source", "target", "weights")
"""Options of components that may name a file."""
_MOST_SHARED = 1024
_shared: dict[Hashable, Shared] = {}
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(content: Mapping[str, Any]) -> str:
    """Hash canonical JSON: keys sorted, no white space, floats as they round-trip."""
    return _hashed(_canonical(content))


class Shared:
    """What many identities have in common, whose canonical JSON is made once.

    Args:
        content: the values that they share, by name.
        own: names of the texts that each has of its own.
    """

    def __init__(self, content: Mapping[str, Any], own: Collection[str]) -> None:
        self.own = sorted(own)
        self.pieces = [""]
        for name in sorted({*content, *own}):
            begun = len(self.pieces) > 1 or bool(self.pieces[0])
            self.pieces[-1] += ("," if begun else "{") + encode_basestring_ascii(name) + ":"
            if name in self.own:
                self.pieces.append("")
            else:
                self.pieces[-1] += _canonical(content[name])
        self.pieces[-1] += "}"

    def digest(self, /, **own: str) -> str:
        """Return `digest` of the shared content together with texts of one's own."""
        text = self.pieces[0]
        for name, piece in zip(self.own, self.pieces[1:], strict=True):
            text += encode_basestring_ascii(own[name]) + piece
        return _hashed(text)


def shared_by(key: Hashable, make: Callable[[], tuple[Mapping[str, Any], Collection[str]]]) -> Shared:
    """Return what the identities of one key share.

    Args:
        key: equal only where what they share is equal.
        make: returns the arguments of `Shared`, where the key is a new one.
    """
    found = _shared.get(key)
    if found is None:
        if len(_shared) >= _MOST_SHARED:
            _shared.clear()
        found = _shared[key] = Shared(*make())
    return found


def _canonical(content: Any) -> str:
    return _ENCODER.encode(content)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def component_identity(component: Bound, files: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return the part of a component that can change numbers: not how it is written, nor where its files lie.

    Args:
        component: the component. One that is not segbench's own counts with its source.
        files: hashes of files by their paths, which stand for them in its options.
    """
    if files or component.component.kind == "defense":  # a defense counts with the source of its attack, too
        return _identity(component, files)
    return dict(_known_identity(component, component.component.source))


@lru_cache(maxsize=1024)
def _known_identity(component: Bound, source: str | None) -> dict[str, Any]:
    """Return the identity of a component that `component` and `source` tell from all others: many cells share it."""
    return _identity(component, {})


def _identity(component: Bound, files: Mapping[str, str]) -> dict[str, Any]:
    own = component.identity
    identity = {"name": own.name, "version": own.version, "options": _by_content(plain(own.options), files)}
    return {**identity, **_source(component.component)}


def _source(component: Definition) -> dict[str, str]:
    return {} if component.source is None else {"source": component.source}


def file_hashes(*components: Component) -> dict[str, str]:
    """Hash the files that components' options name, by what is written there; a file that is not there is left out."""
    named = {written for component in components for written in _named_files(component.options)}
    return {written: file_sha256(_file(written)) for written in sorted(named)}


def _file(written: str) -> Path:
    """Return the file that an option names; `FILE::KEY` is a part of one, whose name stays in the digest."""
    return Path(written) if is_file(written) else Path(written.rpartition("::")[0])


def _named_files(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _named_files(value)
        elif name in FILE_OPTIONS and isinstance(value, str) and is_file(_file(value)):
            yield value


def _by_content(options: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found[name] = _by_content(value, files)
            if value.keys() == {"name", "version", "options"}:  # an attack that a defense trains against
                found[name] |= _source(catalog.find("attack", value["name"]))
        else:
            found[name] = _content(value, files) if name in FILE_OPTIONS and value in files else value
    return found


def _content(written: str, files: Mapping[str, str]) -> str:
    key = "" if is_file(written) else "::" + written.rpartition("::")[2]
    return f"sha256:{files[written]}{key}"


def plain(value: Any) -> Any:
    """Return nested data with plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
