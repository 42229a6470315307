"""Baselines: the results of a matrix in one small JSON file, which is committed beside the code that it checks."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from segbench.documents.strict_json import parse_json
from segbench.documents.text import read_text
from segbench.errors import SegbenchError, shown
from segbench.files import write_json
from segbench.plan.evaluations import EVALUATION_VERSION
from segbench.regression.rules import MOST, Allowed, resolved
from segbench.reports.comparable import identity, shared_parts
from segbench.reports.metrics.registry import is_metric
from segbench.reports.metrics.tallied import Tallied, Tallies, wrong
from segbench.reports.records import Component, Frozen, Record
from segbench.reports.statistics import Absent, Counts

BASELINE_VERSION = 1
LARGEST = 64 << 20
"""Largest size of a baseline's file, in bytes."""
MOST_COUNTS = 1 << 25
"""Largest number of counts in a baseline, over all its rows: runs times images times 3 times classes, and tallies."""
LONGEST_VALUE = 1_000
_AGAIN = "make the baseline again with --update"
Size = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, le=MOST)]
Kind = Literal["<i8", "<f8"]


class Packed(Frozen):
    """An array in a file.

    Attributes:
        shape: its shape: runs, images, and those of one image.
        kind: type of its numbers, as numpy writes it.
        values: its bytes, as base64 of zlib.
    """

    shape: Annotated[tuple[Size, ...], Field(min_length=3, max_length=5)]
    kind: Kind
    values: str

    def array(self) -> NDArray[Any]:
        """Return the array.

        Raises:
            ValueError: it is damaged, or of another length than the shape says.
        """
        raw = _unpacked(self.values, 8 * math.prod(self.shape))
        if raw is None:
            raise ValueError(f"counts of another length than {self.shape}")
        return np.frombuffer(raw, dtype=self.kind).reshape(self.shape)


class BaselineRow(Frozen):
    """One row of a matrix: a network under an attack, over all its seeds.

    Attributes:
        label: dataset, model, defense, attack and, in a transfer, the source.
        like: properties that must be equal for numbers to be comparable (see `likeness`).
        weights_sha256: hash of the weights of each run.
        shape: shape of `counts`: runs, images, 3, classes.
        counts: intersection, predicted and true pixels by run, image and class, as base64 of zlib of int32.
        tallies: what else was counted on every image, by family; only what the baseline's metrics need.
    """

    label: str
    like: Mapping[str, Any]
    weights_sha256: tuple[str | None, ...]
    shape: tuple[Size, Size, Literal[3], Size]
    counts: str
    tallies: Mapping[Literal["confidence", "boundary", "objects"], Packed] = Field(default_factory=dict)

    def array(self) -> Counts:
        """Return the counts, (R, N, 3, C) int64.

        Raises:
            ValueError: they are damaged, or others than the shape says.
        """
        raw = _unpacked(self.counts, 4 * math.prod(self.shape))
        if raw is None:
            raise ValueError(f"counts of another length than {self.shape}")
        counts = np.frombuffer(raw, dtype="<i4").reshape(self.shape).astype(np.int64)
        right, predicted, true = np.moveaxis(counts, 2, 0)
        if (right < 0).any() or (right > np.minimum(predicted, true)).any():
            raise ValueError("counts that are impossible")
        return counts

    def runs(self) -> list[Tallied]:
        """Return what was counted in each run.

        Raises:
            ValueError: it is damaged or impossible.
        """
        if self.like.get("absent") not in ("skip", "zero"):
            raise ValueError("no rule for absent classes")
        counts, tallies = self.array(), {family: packed.array() for family, packed in self.tallies.items()}
        if any(array.shape[:2] != self.shape[:2] for array in tallies.values()):
            raise ValueError("tallies of other runs or images than the counts")
        found = [
            Tallied(own, self.absent, {family: array[run] for family, array in tallies.items()})
            for run, own in enumerate(counts)
        ]
        for own in found:
            if why := wrong(own):
                raise ValueError(why)
        return found

    @property
    def absent(self) -> Absent:
        """The protocol's rule for absent classes, "skip" or "zero"."""
        absent: Absent = self.like["absent"]
        return absent


class Baseline(Frozen):
    """The stored results of a matrix.

    Attributes:
        matrix: name of the matrix.
        allowed: metric -> how much worse it may become without a regression, or "noise".
        versions: versions of the packages that measured it.
        entries: the rows.
    """

    schema_version: int = BASELINE_VERSION
    matrix: str
    allowed: Mapping[str, Amount | Literal["noise"]]
    versions: Mapping[str, str]
    entries: tuple[BaselineRow, ...]


def grouped(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return label -> records that differ only in their seeds."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_label(record), []).append(record)
    return {label: sorted(own, key=lambda r: (r.target.seed, r.source.seed)) for label, own in groups.items()}


def measured(
    name: str,
    records: Sequence[Record],
    counts_of: Callable[[str], Counts | None],
    allowed: Allowed,
    tallies_of: Callable[[str], Tallies] = lambda digest: {},
    also: Collection[str] = (),
) -> Baseline:
    """Return a baseline of finished records; a row with an unfinished record is left out.

    Args:
        name: name of the matrix.
        records: its records.
        counts_of: digest of an evaluation -> its counts, (N, 3, C).
        allowed: metric -> how much worse it may become, or "noise".
        tallies_of: digest of an evaluation -> what else was counted on its images, by family.
        also: further metrics whose families are kept.
    """
    entries = []
    for label, group in grouped(records).items():
        counts = [counts_of(record.digest) for record in group if record.status == "done"]
        runs = [run for run in counts if run is not None]
        if len(runs) < len(group):
            continue
        packed = np.stack(runs).astype("<i4")
        named = (resolved(each, group[0].classes) for each in (*allowed, *also))
        families = {own.family for own in named if own is not None} - {"counts"}
        entries.append(
            BaselineRow(
                label=label,
                like=likeness(group),
                weights_sha256=tuple(record.target.weights_sha256 for record in group),
                shape=packed.shape,
                counts=_text(packed),
                tallies=_packed([tallies_of(record.digest) for record in group], families) if families else {},
            )
        )
    versions: Mapping[str, str] = next((r.provenance["versions"] for r in records if "versions" in r.provenance), {})
    return Baseline(matrix=name, allowed=allowed, versions=versions, entries=tuple(entries))


def _packed(tallies: Sequence[Tallies], families: Collection[str]) -> dict[Any, Packed]:
    """Pack the wanted families that every run has."""
    found = {}
    for family in sorted(families):
        if all(family in own for own in tallies):
            array = np.stack([own[family] for own in tallies])
            kind: Kind = "<i8" if np.issubdtype(array.dtype, np.integer) else "<f8"
            found[family] = Packed(shape=array.shape, kind=kind, values=_text(array.astype(kind)))
    return found


def _text(array: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def _unpacked(text: str, size: int) -> bytes | None:
    """Return the bytes that were packed; None if they are not of that size.

    Raises:
        ValueError: they cannot be unpacked.
    """
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(base64.b64decode(text, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"counts that cannot be unpacked ({error})") from error
    return raw if len(raw) == size and inflate.eof else None


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
    unknown = next((name for name in found.allowed if not is_metric(name)), None)
    if unknown is not None:
        raise SegbenchError(f"{path}: allowed: no metric is called {shown(unknown)}; {_AGAIN}")
    number = sum(
        math.prod(shape)
        for row in found.entries
        for shape in (row.shape, *(packed.shape for packed in row.tallies.values()))
    )
    if number > MOST_COUNTS:
        raise SegbenchError(f"{path}: {number:,} counts, more than are read ({MOST_COUNTS:,}); {_AGAIN}")
    for row in found.entries:
        try:
            row.runs()
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
