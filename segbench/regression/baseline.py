"""Baselines: the results of a matrix in one small JSON file, which is committed beside the code that it checks."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from segbench.documents import parse_json, read_text
from segbench.errors import SegbenchError, shown
from segbench.files import write_json
from segbench.plan.cells import EVALUATION_VERSION
from segbench.reports.comparable import identity, shared_parts
from segbench.reports.records import Component, Frozen, Record
from segbench.reports.statistics import Absent, Counts

BASELINE_VERSION = 1
LARGEST = 64 << 20
"""Largest size of a baseline's file, in bytes."""
MOST_COUNTS = 1 << 25
"""Largest number of counts in a baseline: runs times images times 3 times classes, over all its rows."""
LONGEST_VALUE = 1_000
_AGAIN = "make the baseline again with --update"
Metric = Literal["miou", "macc", "aacc"]
METRICS: tuple[Metric, ...] = ("miou", "macc", "aacc")
Size = Annotated[int, Field(ge=1)]
Allowed = Mapping[Metric, Annotated[float, Field(ge=0, le=100)] | Literal["noise"]]
"""Metric -> allowed drop in percentage points, or "noise": any drop that the bootstrap interval covers."""


class BaselineRow(Frozen):
    """One row of a matrix: a network under an attack, over all its seeds.

    Attributes:
        label: dataset, model, defense, attack and, in a transfer, the source.
        like: properties that must be equal for numbers to be comparable (see `likeness`).
        weights_sha256: hash of the weights of each run.
        shape: shape of `counts`: runs, images, 3, classes.
        counts: intersection, predicted and true pixels by run, image and class, as base64 of zlib of int32.
    """

    label: str
    like: Mapping[str, Any]
    weights_sha256: tuple[str | None, ...]
    shape: tuple[Size, Size, Literal[3], Size]
    counts: str

    def array(self) -> Counts:
        """Return the counts, (R, N, 3, C) int64.

        Raises:
            ValueError: they are damaged, or others than the shape says.
        """
        size = 4 * math.prod(self.shape)
        inflate = zlib.decompressobj()
        try:
            raw = inflate.decompress(base64.b64decode(self.counts, validate=True), size + 1)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"counts that cannot be unpacked ({error})") from error
        if len(raw) != size or not inflate.eof:
            raise ValueError(f"counts of another length than {self.shape}")
        counts = np.frombuffer(raw, dtype="<i4").reshape(self.shape).astype(np.int64)
        right, predicted, true = np.moveaxis(counts, 2, 0)
        if (right < 0).any() or (right > np.minimum(predicted, true)).any():
            raise ValueError("counts that are impossible")
        return counts

    @property
    def absent(self) -> Absent:
        """The protocol's rule for absent classes, "skip" or "zero"."""
        absent: Absent = self.like["absent"]
        return absent


class Baseline(Frozen):
    """The stored results of a matrix.

    Attributes:
        matrix: name of the matrix.
        allowed: metric -> drop that is not a regression.
        versions: versions of the packages that measured it.
        entries: the rows.
    """

    schema_version: int = BASELINE_VERSION
    matrix: str
    allowed: Allowed
    versions: Mapping[str, str]
    entries: tuple[BaselineRow, ...]


def grouped(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return label -> records that differ only in their seeds."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_label(record), []).append(record)
    return {label: sorted(own, key=lambda r: (r.target.seed, r.source.seed)) for label, own in groups.items()}


def measured(
    name: str, records: Sequence[Record], counts_of: Callable[[str], Counts | None], allowed: Allowed
) -> Baseline:
    """Return a baseline of finished records; a row with an unfinished record is left out.

    Args:
        name: name of the matrix.
        records: its records.
        counts_of: digest of an evaluation -> its counts, (N, 3, C).
        allowed: metric -> drop that is not a regression.
    """
    entries = []
    for label, group in grouped(records).items():
        counts = [counts_of(record.digest) for record in group if record.status == "done"]
        runs = [run for run in counts if run is not None]
        if len(runs) < len(group):
            continue
        packed = np.stack(runs).astype("<i4")
        entries.append(
            BaselineRow(
                label=label,
                like=likeness(group),
                weights_sha256=tuple(record.target.weights_sha256 for record in group),
                shape=packed.shape,
                counts=base64.b64encode(zlib.compress(packed.tobytes(), 9)).decode(),
            )
        )
    versions: Mapping[str, str] = next((r.provenance["versions"] for r in records if "versions" in r.provenance), {})
    return Baseline(matrix=name, allowed=allowed, versions=versions, entries=tuple(entries))


def likeness(group: Sequence[Record]) -> dict[str, Any]:
    """Return the properties that two groups of records must share to be compared, as plain data.

    Weights, recipes and options of networks are left out: a check is meant to show their effect.
    """
    first = group[0]
    shared = shared_parts(first)
    return {
        "evaluation version": EVALUATION_VERSION,
        **{name: identity(part) if isinstance(part, Component) else part for name, part in shared.items()},
        "attack": identity(first.attack),
        "attack seed": first.seed,
        "model version": first.target.model.version,
        "defense version": first.target.defense.version,
        "dynamic": first.dynamic,
        "seeds": [[record.target.seed, record.source.seed] for record in group],
    }


def unlike(baseline: Baseline, records: Sequence[Record]) -> list[str]:
    """Return a sentence for each reason why a baseline and the evaluations of a matrix cannot be compared.

    Args:
        baseline: the baseline.
        records: the evaluations, finished or not.
    """
    then, now = {entry.label: entry.like for entry in baseline.entries}, grouped(records)
    found = [f"{label}: not in the matrix any more" for label in then if label not in now]
    found += [f"{label}: not in the baseline" for label in now if label not in then]
    for label, group in now.items():
        if label in then:
            here = likeness(group)
            found += [
                f"{label}: {key} was {_short(then[label].get(key))}, is {value}"
                for key, value in here.items()
                if then[label].get(key) != value
            ]
    return found


def read(path: Path) -> Baseline | None:
    """Read a baseline; None if there is no file.

    Raises:
        SegbenchError: the file is not a baseline of this version.
    """
    if not path.exists():
        return None
    content = parse_json(read_text(path, LARGEST), str(path), LARGEST)
    if not isinstance(content, dict):
        raise SegbenchError(f"{path}: not a JSON object; {_AGAIN}")
    if content.get("schema_version") != BASELINE_VERSION:
        version = shown(content.get("schema_version"))
        raise SegbenchError(f"{path}: baseline of version {version}, this segbench reads {BASELINE_VERSION}; {_AGAIN}")
    try:
        found = Baseline.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SegbenchError(f"{path}: {where}: {first['msg'].lower()}; {_AGAIN}") from error
    number = sum(math.prod(row.shape) for row in found.entries)
    if number > MOST_COUNTS:
        raise SegbenchError(f"{path}: {number:,} counts, more than are read ({MOST_COUNTS:,}); {_AGAIN}")
    for row in found.entries:
        try:
            row.array()
        except ValueError as error:
            raise SegbenchError(f"{path}: {shown(row.label)} has {error}; {_AGAIN}") from error
    return found


def write(baseline: Baseline, path: Path) -> None:
    """Write a baseline to a file."""
    write_json(path, baseline.model_dump(mode="json"))


def _short(value: Any) -> str:
    """Return a value as text; what a file holds in its place may be of any length."""
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _label(record: Record) -> str:
    parts = [record.dataset.short, record.target.model.short, record.target.defense.short, record.attack.short]
    if record.oblivious:
        parts.append("oblivious")
    if record.setting == "black-box":
        parts.append(f"from {record.source.model.short} {record.source.defense.short}")
    return ", ".join(parts)
