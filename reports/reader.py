"""Records out of JSON: what many of them share is parsed and checked once."""

from __future__ import annotations

import marshal
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from segbench.reports.records import Component, Frozen, Network, Record, RecordedThreat

PARTS: Mapping[str, type[Frozen]] = {
    "dataset": Component,
    "protocol": Component,
    "target": Network,
    "source": Network,
    "attack": Component,
    "threat": RecordedThreat,
}
"""What records share, and its kind, in the order of a record's fields."""

_FIELDS = list(Record.model_fields)
_BETWEEN = tuple(
    (name, f',"{name}":'.encode(), f',"{_FIELDS[_FIELDS.index(name) + 1]}":'.encode(), kind)
    for name, kind in PARTS.items()
)
"""Name of a part, the bytes before it and those behind it in a record without white space, and its kind."""


class Reader:
    """Turns JSON into records, in which equal networks, components and threats are one object.

    Many records share a few networks and components, so that this saves most of the time and memory.

    Args:
        parts: networks, components and threats as plain data, where records hold their places in this list.
    """

    def __init__(self, parts: Sequence[object] = ()) -> None:
        self._parts = parts
        self._known: dict[tuple[type[Frozen], bytes | int], Frozen] = {}
        self._given = set(_FIELDS)

    def parse(self, raw: bytes) -> Any:
        """Return the plain data of JSON without white space, but for what is known of a record: those parts are whole.

        Raises:
            ValueError: it is no JSON.
        """
        pieces, found, place = [], {}, 0
        for name, before, behind, kind in _BETWEEN:
            begins = raw.find(before, place)
            ends = raw.find(behind, begins + len(before))
            if begins >= 0 and ends >= 0:
                text = raw[begins + len(before) : ends]
                try:
                    found[name] = self._part(kind, text)
                except ValueError:  # what looks like the end of it may be a part of it
                    continue
                pieces.append(raw[place:begins])
                place = ends
        content = from_json(b"".join([*pieces, raw[place:]]))
        if not isinstance(content, dict) or not found.keys().isdisjoint(content):
            return from_json(raw)  # what was found is a part of something else
        content.update(found)
        return content

    def __call__(self, plain: object) -> Record:
        """Return the record of plain data.

        Raises:
            ValidationError: of pydantic; it is not a record.
        """
        if not isinstance(plain, dict):
            return Record.model_validate(plain)
        apart = {name: kind for name, kind in PARTS.items() if not isinstance(plain.get(name), kind)}
        if apart:
            plain = {
                **plain,
                **{name: self._shared(kind, plain[name]) for name, kind in apart.items() if name in plain},
            }
        record = Record.model_validate(plain)
        if len(record.model_fields_set) == len(self._given):  # sets of their own would be a third of what records take
            object.__setattr__(record, "__pydantic_fields_set__", self._given)
        return record

    def _part(self, kind: type[Frozen], text: bytes) -> Frozen:
        known = self._known.get((kind, text))
        if known is None:
            known = self._known[kind, text] = kind.model_validate(from_json(text))
        return known

    def _shared(self, kind: type[Frozen], plain: object) -> object:
        if isinstance(plain, int) and 0 <= plain < len(self._parts):
            key: tuple[type[Frozen], bytes | int] = kind, plain
            plain = self._parts[plain]
        elif isinstance(plain, dict):
            key = kind, marshal.dumps(plain, 2)  # only a key, never read back; fast to make
        else:
            return plain
        if key not in self._known:
            self._known[key] = kind.model_validate(plain)
        return self._known[key]
