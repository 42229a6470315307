"""What a matrix asked for, as its file holds it: what many evaluations share stands there once."""

from __future__ import annotations

import json
from typing import Any

from segbench.reports.reader import PARTS
from segbench.reports.records import Manifest


def to_plain(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest as data for JSON, with places in the list `parts` where records hold networks and components.

    `segbench.reports.reader.Reader` reads it. Values that are a record's defaults are left out.
    """
    parts: dict[str, int] = {}
    known: dict[int, int] = {}

    def place(part: Any) -> int:
        if id(part) not in known:
            known[id(part)] = parts.setdefault(json.dumps(part.model_dump(mode="json")), len(parts))
        return known[id(part)]

    records = [
        {
            **record.model_dump(mode="json", exclude=set(PARTS), exclude_defaults=True),
            **{name: place(getattr(record, name)) for name in PARTS},
        }
        for record in manifest.records
    ]
    plain = manifest.model_dump(mode="json", exclude={"records"})
    return {**plain, "parts": [json.loads(part) for part in parts], "records": records}
