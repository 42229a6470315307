"""Records out of plain data: what many of them share is checked once."""

from __future__ import annotations

import marshal
from collections.abc import Mapping, Sequence

from segbench.reports.records import Component, Frozen, Network, Record, RecordedThreat

PARTS: Mapping[str, type[Frozen]] = {
    "dataset": Component,
    "protocol": Component,
    "target": Network,
    "source": Network,
    "attack": Component,
    "threat": RecordedThreat,
}
"""What records share, and its kind."""


class Reader:
    """Turns plain data into records, in which equal networks, components and threats are one object.

    Many records share a few networks and components, so that this saves most of the time and memory.

    Args:
        parts: networks, components and threats as plain data, where records hold their places in this list.
    """

    def __init__(self, parts: Sequence[object] = ()) -> None:
        self._parts = parts
        self._known: dict[tuple[type[Frozen], bytes | int], Frozen] = {}
        self._given = set(Record.model_fields)

    def __call__(self, plain: object) -> Record:
        """Return the record of plain data.

        Raises:
            ValidationError: of pydantic; it is not a record.
        """
        if not isinstance(plain, dict):
            return Record.model_validate(plain)
        shares = {name: self._shared(kind, plain[name]) for name, kind in PARTS.items() if name in plain}
        record = Record.model_validate({**plain, **shares})
        if len(record.model_fields_set) == len(self._given):  # sets of their own would be a third of what records take
            object.__setattr__(record, "__pydantic_fields_set__", self._given)
        return record

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
