"""Checks of numbers: does an entry agree with its records, and do the records agree with their counts?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.leaderboard.bundled import Evaluation
from segbench.leaderboard.checking import TOLERANCE
from segbench.recount import contradictory, disagreement
from segbench.reports.differences import interval_over_runs, runs_of
from segbench.reports.leaderboard.entries import Entry, EntryResult
from segbench.reports.records import Record, Scores
from segbench.reports.statistics import Absent, interval
from segbench.reports.worst_case import worst_case


def compare(entry: Entry, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Yield every disagreement between an entry, its records and their counts.

    Args:
        entry: the entry.
        evaluations: the evidence for its runs.
    """
    for own in evaluations:
        name = f"records/{own.record.digest}.json"
        for field, said, recorded in _said(entry, own):
            if not _equal(said, recorded):
                yield f"{name}: {field} is {_shown(recorded)}, the entry says {_shown(said)}"
        if own.record.setting != "black-box" and own.record.source != own.record.target:
            yield f"{name}: its images were made on another network, as in a black-box setting"
        records, counts = f"records/{own.record.digest}.json", f"counts/{own.record.digest}.json"
        yield from counted(own.record, own.counts, own.names, own.parts, (records, counts), own.tallies)
    truth = evaluations[0].counts[:, 2] if evaluations else None
    for own in evaluations:
        if truth is not None and not np.array_equal(own.counts[:, 2], truth):
            yield f"counts/{own.record.digest}.json: true pixels differ from those of the entry's other evaluations"
        if own.names != evaluations[0].names:
            yield f"counts/{own.record.digest}.json: image names differ from those of the entry's other evaluations"
    for index, result in enumerate(entry.results):
        if not result.runs:
            yield f"entry.json: results.{index}: has no runs, so that nothing of it can be checked"
        yield from (f"entry.json: results.{index}: {text}" for text in _interval(entry, result, evaluations))


def _said(entry: Entry, own: Evaluation) -> Iterator[tuple[str, object, object]]:
    """Yield (field of the record, value in the entry, value in the record)."""
    record, run, model, threat = own.record, own.run, entry.model, entry.threat
    clean = own.result.attack is None
    hashes = {weights.seed: weights.sha256 for weights in model.weights}
    yield "dataset", entry.data.dataset, record.dataset
    yield "split", entry.data.split, record.split
    yield "limit", entry.data.limit, record.limit
    yield "n_images", entry.data.images, record.n_images
    yield "data_fingerprint", entry.data.fingerprint, record.data_fingerprint
    yield "classes", entry.data.classes, record.classes
    yield "protocol", entry.protocol.component, record.protocol
    yield "absent", entry.protocol.absent, record.absent
    yield "target.model", model.architecture, record.target.model
    yield "target.defense", model.defense, record.target.defense
    yield "target.recipe", dict(model.recipe), dict(record.target.recipe)
    yield "target.seed", run.seed, record.target.seed
    yield "target.weights_sha256", hashes.get(run.seed), record.target.weights_sha256
    yield "dynamic", model.dynamic, record.dynamic
    yield "adaptive", own.result.adaptive, None if clean else record.adaptive
    if clean:
        yield "setting", "clean", record.setting
    else:
        yield "attack", own.result.attack, record.attack
        black = threat.setting == "black-box"
        yield "setting", "black-box" if black else "white-box", record.setting
        yield "threat.norm", threat.norm, record.threat.norm
        yield "threat.eps", threat.eps, record.threat.eps
        yield "source.seed", run.source_seed, record.source.seed if black else None
    for field in Scores.model_fields:
        yield f"scores.{field}", getattr(run, field), getattr(record.scores, field)
    if run.metrics:
        yield "metrics", dict(run.metrics), dict(record.metrics)
    yield "extras", dict(run.extras), {k: v for k, v in record.extras.items() if isinstance(v, int | float)}


def counted(
    record: Record,
    counts: NDArray[np.int64],
    names: Sequence[str],
    parts: Sequence[NDArray[np.int64]],
    files: tuple[str, str],
    tallies: Mapping[str, NDArray[Any]] | None,
) -> Iterator[str]:
    """Yield counts that are impossible, and scores of the record that do not follow from the counts.

    Args:
        record: the record, with scores.
        counts: (N, 3, C); see `segbench.reports.statistics`.
        names: names of the N images.
        parts: the counts of each part of an ensemble, each (N, 3, C); empty for other attacks.
        files: what mistakes name: the file of the record, and that of the counts.
        tallies: what else was counted, by family; None where that is not at hand.
    """
    where, name = files
    wrong = disagreement(record, counts, names, tallies=tallies, intervals=True)
    if wrong is not None:
        yield f"{where}: {wrong}"
    for part in parts:
        if part.shape != counts.shape:
            yield f"{name}: parts of {part.shape} counts, the evaluation has {counts.shape}"
            return
    if any(contradictory(part) for part in parts):
        yield f"{name}: counts of pixels of a part contradict each other"
    elif parts and not _is_worst(counts, parts, record.absent):
        yield f"{name}: the counts are not those of the worst choice among the parts"


def _is_worst(counts: NDArray[np.int64], parts: Sequence[NDArray[np.int64]], absent: Absent) -> bool:
    try:
        worst = worst_case(parts, absent)
    except ValueError:
        return False
    chosen = np.stack(parts)[worst.choice, np.arange(len(worst.choice))]
    return np.array_equal(chosen, counts)


def _interval(entry: Entry, result: EntryResult, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    runs = {run.record for run in result.runs}
    counts = [own.counts for own in evaluations if own.record.digest in runs]
    if result.low is None or len(counts) < len(runs) or len({own.shape for own in counts}) > 1:
        return
    stacked, records = np.stack(counts), [own.record for own in evaluations if own.record.digest in runs]
    found = interval_over_runs(runs_of(stacked, records), entry.protocol.absent)
    # Earlier entries have an interval that takes trainings for draws from those that were run.
    earlier = interval(stacked, entry.protocol.absent)
    if not any(_equal((result.low, result.high), (own.low, own.high)) for own in (found, earlier)):
        yield f"interval {result.low:g} to {result.high:g}, counts give {found.low:.4f} to {found.high:.4f}"


def _equal(a: object, b: object) -> bool:
    """Return whether two values are equal; numbers may differ by their rounding."""
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, int | float) and isinstance(b, int | float) and math.isclose(a, b, abs_tol=TOLERANCE)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_equal(own, other) for own, other in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    return a == b


def _shown(value: object) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(getattr(value, "short", value))
    return text if len(text) <= 80 else f"{text[:77]}..."
