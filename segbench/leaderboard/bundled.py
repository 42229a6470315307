"""The evidence in a bundle for each run of an entry: record, counts and sampled images."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from segbench.leaderboard import images
from segbench.leaderboard.archive import DENSEST, read_json
from segbench.leaderboard.bundle import ENTRY, MANIFEST
from segbench.leaderboard.checking import PRECISION
from segbench.reports.leaderboard.entries import Entry, EntryResult, Run
from segbench.reports.records import Record

Files = Mapping[str, bytes]

LARGEST_COUNT = 1 << 40
"""No image has so many pixels; sums of smaller numbers stay exact."""
LEAST_PIXELS = 32 << 20
"""Bytes of pixels that every bundle may have; a larger one, `DENSEST` times those of its image files."""


@dataclass(frozen=True)
class Shown:
    """A sampled image of an evaluation.

    Attributes:
        where: its folder in the bundle.
        index: its position in the split.
        clean: the clean pieces, (K, h, w, 3) in 0..65535.
        adversarial: the attacked pieces; for a clean evaluation, the clean pieces.
        truth: (H, W) true labels.
        preds: (H, W) predicted labels.
    """

    where: str
    index: int
    clean: NDArray[np.uint16]
    adversarial: NDArray[np.uint16]
    truth: NDArray[np.uint8]
    preds: NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluation:
    """A run of an entry with its evidence.

    Attributes:
        result: the result that the run belongs to.
        run: the run as the entry gives it.
        record: the record of the evaluation.
        names: names of all its images.
        counts: (N, 3, C); see `segbench.reports.statistics`.
        parts: the counts of each part of an ensemble, each (N, 3, C); empty for other attacks.
        tallies: what else was counted, by family; None in older bundles.
        sample: the sampled images.
    """

    result: EntryResult
    run: Run
    record: Record
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    parts: tuple[NDArray[np.int64], ...]
    tallies: Mapping[str, NDArray[np.float64]] | None
    sample: tuple[Shown, ...]


class _Unusable(ValueError):
    """A file of a bundle cannot be used; the message names the file."""


def gather(files: Files, entry: Entry) -> tuple[list[Evaluation], list[str]]:
    """Return the evidence for every run of an entry, and the problems with its files.

    Args:
        files: the files of the bundle.
        entry: the entry of the bundle.
    """
    evaluations, problems = [], []
    packed = {name: content for name, content in files.items() if name.endswith(".png")}
    most = max(LEAST_PIXELS, DENSEST * sum(map(len, packed.values())))
    unpacked = sum(map(images.unpacked_size, packed.values()))
    if unpacked > most:
        return [], [f"the images hold {unpacked:,} bytes, more than are read of files of their length ({most:,})"]
    indices = _indices(files)
    used = {MANIFEST, ENTRY}
    for result in entry.results:
        for run in result.runs:
            try:
                evaluation = _evaluation(files, result, run, indices.get(run.record, []), used)
            except _Unusable as error:
                problems.append(str(error))
            else:
                evaluations.append(evaluation)
    if not problems:
        problems += [f"{name}: belongs to no run of the entry" for name in sorted(set(files) - used)]
    return evaluations, problems


def _indices(files: Files) -> dict[str, list[str]]:
    """Return digest of an evaluation -> folder names of its sampled images."""
    found = defaultdict(list)
    for name in sorted(files):
        if match := re.fullmatch(r"predicted/([0-9a-f]+)/(\d+)/preds\.png", name):
            found[match[1]].append(match[2])
    return found


def _evaluation(files: Files, result: EntryResult, run: Run, indices: list[str], used: set[str]) -> Evaluation:
    record = _record(files, run.record)
    name = f"counts/{run.record}.json"
    content = _json(files, name)
    counts, parts, names = (content.get(key) for key in ("counts", "parts", "names"))
    if not isinstance(parts, list) or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise _Unusable(f"{name}: not counts with the names of their images")
    used |= {name, f"records/{run.record}.json"}
    if not indices:
        raise _Unusable(f"predicted/{run.record}: no image of this evaluation is in the bundle")
    return Evaluation(
        result=result,
        run=run,
        record=record,
        names=tuple(names),
        counts=_array(counts, len(record.classes), name),
        parts=tuple(_array(part, len(record.classes), name) for part in parts),
        tallies=_tallies(files, run.record, used),
        sample=tuple(_shown(files, record, index, used) for index in indices),
    )


def _record(files: Files, digest: str) -> Record:
    name = f"records/{digest}.json"
    try:
        record = Record.model_validate(_json(files, name))
    except ValidationError as error:
        first = error.errors()[0]
        raise _Unusable(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error
    if record.digest != digest:
        raise _Unusable(f"{name}: is the record {record.digest}")
    if record.status != "done" or record.scores is None:
        raise _Unusable(f"{name}: the evaluation is {record.status} and has no scores")
    if record.precision != PRECISION:
        raise _Unusable(f"{name}: scored in {record.precision}; the numbers of a board are those of {PRECISION}")
    return record


def _array(content: object, classes: int, name: str) -> NDArray[np.int64]:
    """Return nested lists as counts; NumPy is given whole numbers alone, since texts could make it take any memory."""
    wanted = f"counts are whole numbers (images, 3, {classes})"
    level, shape = _level(content, f"{name}: {wanted}")
    if {type(item) for item in level} != {int} or shape[1:] != [3, classes]:
        raise _Unusable(f"{name}: {wanted}, got {tuple(shape)}")
    try:
        counts = np.array(level, dtype=np.int64).reshape(shape)
    except OverflowError:
        counts = np.full(shape, LARGEST_COUNT, dtype=np.int64)
    if counts.max() >= LARGEST_COUNT:
        raise _Unusable(f"{name}: {wanted} below {LARGEST_COUNT:,}")
    return counts


def _tallies(files: Files, digest: str, used: set[str]) -> dict[str, NDArray[np.float64]] | None:
    """Return what was counted beside the pixels of each class; `disagreement` compares it with the record."""
    name = f"tallies/{digest}.json"
    if name not in files:
        return None
    used.add(name)
    found = {}
    for family, content in _json(files, name).items():
        level, shape = _level(content, f"{name}: {family}: tallies are numbers (images, rows, columns)")
        if not {type(item) for item in level} <= {int, float}:
            raise _Unusable(f"{name}: {family}: tallies are numbers (images, rows, columns)")
        try:
            found[family] = np.array(level, dtype=np.float64).reshape(shape)
        except OverflowError as error:
            raise _Unusable(f"{name}: {family}: numbers that are too large") from error
    return found


def _level(content: object, wanted: str) -> tuple[list[object], list[int]]:
    """Return what three lists inside each other hold, and their lengths."""
    level, shape = [content], []
    for _ in range(3):
        if {type(item) for item in level} != {list}:
            raise _Unusable(wanted)
        lists: list[list[object]] = level  # type: ignore[assignment]  # as the line above has found
        if len({len(item) for item in lists}) > 1:
            raise _Unusable(f"{wanted}, got lists of unequal length")
        shape.append(len(lists[0]))
        level = [item for items in lists for item in items]
    return level, shape


def _shown(files: Files, record: Record, index: str, used: set[str]) -> Shown:
    seen, own = f"images/{index}", f"predicted/{record.digest}/{index}"
    truth, preds = (_pixels(files, name, used, labels=True) for name in (f"{seen}/truth.png", f"{own}/preds.png"))
    clean = _pieces(files, f"{seen}/clean", used)
    adversarial = clean if record.setting == "clean" else _pieces(files, f"{own}/adversarial", used)
    if clean.shape != adversarial.shape:
        raise _Unusable(f"{own}: attacked pieces are {adversarial.shape}, clean ones {clean.shape}")
    if truth.shape != preds.shape:
        raise _Unusable(f"{own}/preds.png: {preds.shape} pixels, its truth has {truth.shape}")
    return Shown(own, int(index), clean, adversarial, truth.astype(np.uint8), preds.astype(np.uint8))


def _pieces(files: Files, stem: str, used: set[str]) -> NDArray[np.uint16]:
    """Return the pieces of an image, numbered from 0."""
    pieces = [_pixels(files, f"{stem}-0.png", used)]
    while f"{stem}-{len(pieces)}.png" in files:
        pieces.append(_pixels(files, f"{stem}-{len(pieces)}.png", used))
    if len({piece.shape for piece in pieces}) > 1:
        raise _Unusable(f"{stem}-0.png: the pieces of an image must have one size")
    return np.stack(pieces).astype(np.uint16)


def _pixels(files: Files, name: str, used: set[str], *, labels: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16]:
    used.add(name)
    if name not in files:
        raise _Unusable(f"{name}: missing")
    try:
        return images.decode(files[name], labels=labels)
    except images.NotAnImage as error:
        raise _Unusable(f"{name}: {error}") from error


def _json(files: Files, name: str) -> dict[str, Any]:
    if name not in files:
        raise _Unusable(f"{name}: missing")
    try:
        content = read_json(files[name])
    except ValueError as error:
        raise _Unusable(f"{name}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise _Unusable(f"{name}: not a JSON object")
    return content
