"""The comparison of new results with a baseline, row by row and paired by image: is anything worse, or too low?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.errors import SegbenchError
from segbench.regression.baseline import Baseline, BaselineRow, grouped
from segbench.regression.rules import Allowed, Required, Rule, resolved
from segbench.reports.differences import Difference, of_pairs, resampled_miou
from segbench.reports.metrics.metric import Metric
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.records import Record
from segbench.reports.statistics import RESAMPLES

Verdict = Literal["unchanged", "within noise", "allowed", "improvement", "met", "REGRESSION", "NOT MET", "FAILED"]
BAD: tuple[Verdict, ...] = ("REGRESSION", "NOT MET", "FAILED")
SLOW_RESAMPLES = 500
"""Bootstrap samples of metrics other than mIoU, which are computed one by one."""
_MACHINE = re.compile(
    r"\w*OutOfMemoryError|MemoryError|AcceleratorError|OSError|PermissionError|FileNotFoundError|BrokenProcessPool"
    r"|ModuleNotFoundError|.*(?:no space left|CUDA device\(s\)|worker died|out of memory)",
    re.IGNORECASE | re.DOTALL,
)
"""Reasons of a failure that say nothing of the network."""


class VerdictRow(NamedTuple):
    """One metric of one network under one attack, or one value that it must reach.

    Attributes:
        label: the network and the attack.
        metric: name of the metric.
        baseline: value in the baseline; None if there is none.
        now: new value; None if the evaluation failed.
        allowed: largest worsening that is not a regression; None without a comparison.
        verdict: outcome of the comparison.
        note: reason why an evaluation failed; may be empty.
        heading: what sentences call the metric.
        per_cent: values are per cent and differences percentage points, else both are from 0 to 1.
        higher_is_better: whether a lower value is worse.
        required: the value that must be reached, such as ">= 40"; empty for a comparison.
        machine: the evaluation failed for a reason that says nothing of the network.
    """

    label: str
    metric: str
    baseline: float | None
    now: float | None
    allowed: float | None
    verdict: Verdict
    note: str = ""
    heading: str = "mIoU"
    per_cent: bool = True
    higher_is_better: bool = True
    required: str = ""
    machine: bool = False

    @property
    def difference(self) -> float | None:
        """The new value minus that of the baseline; None if one is missing."""
        return None if self.now is None or self.baseline is None else self.now - self.baseline


def compare(
    then: Baseline | None,
    now: Baseline,
    records: Sequence[Record],
    allowed: Allowed,
    required: Sequence[Required] = (),
    *,
    update: bool = False,
) -> list[VerdictRow]:
    """Compare new results of a matrix with its baseline, and with values that they must reach.

    With "noise", a worsening is a regression if the 95 % interval of the difference, paired by image and by run, lies
    on the worse side of 0, and an improvement if it lies on the other. With a number, a metric that is worse by more
    than that number is a regression, and one that is better by more than it is an improvement.

    Args:
        then: the baseline; None to see only whether values are reached.
        now: the new results, as a baseline.
        records: the new records, in order; unfinished ones fail.
        allowed: metric -> how much worse it may become.
        required: values that must be reached, as means over runs.
        update: a metric that the baseline holds no tallies for is left out, because the baseline is made again.

    Raises:
        SegbenchError: the baseline and the new results did not score the same pixels, or something that a rule needs
            was not tallied.
    """
    before = {entry.label: entry for entry in then.entries} if then is not None else {}
    after = {entry.label: entry for entry in now.entries}
    rows = []
    for label, group in grouped(records).items():
        old, new = before.get(label), after.get(label)
        own = [each for each in required if each.concerns(group[0])]
        if new is None:
            if old is not None or own or then is None:
                failed = next(r for r in group if r.status != "done")
                why = f"{failed.status}: {failed.error or 'no record'}"
                machine = bool(_MACHINE.match(failed.error or ""))
                rows.append(VerdictRow(label, next(iter(allowed)), None, None, None, "FAILED", why, machine=machine))
            continue
        classes = group[0].classes
        measured = new.runs()
        if old is not None:
            kept = _old_runs(label, old, measured)
            for name, rule in allowed.items():
                metric = resolved(name, classes)
                if metric is not None and not (update and _lacks(metric, kept)):
                    rows.append(_compared(label, metric, rule, kept, measured, group))
        rows += [row for each in own if (row := _reached(label, each, measured, classes)) is not None]
    return rows


def settled(rows: Sequence[VerdictRow]) -> int:
    """Return the exit code: 0, 1 where something is worse, too low or failed, 2 where only this machine is to blame."""
    bad = [row for row in rows if row.verdict in BAD]
    return 0 if not bad else 2 if all(row.machine for row in bad) else 1


def _old_runs(label: str, old: BaselineRow, measured: Sequence[Tallied]) -> list[Tallied]:
    kept = old.runs()
    pairs = zip(kept, measured, strict=False)
    if len(kept) != len(measured) or any(not _same_pixels(a.counts, b.counts) for a, b in pairs):
        raise SegbenchError(f"{label}: not scored on the pixels of the baseline, or in another number of runs")
    return kept


def _same_pixels(a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
    return a.shape == b.shape and np.array_equal(a[:, 2], b[:, 2])


def _compared(
    label: str, metric: Metric, rule: Rule, old: Sequence[Tallied], new: Sequence[Tallied], group: Sequence[Record]
) -> VerdictRow:
    """Return the row of one metric that is compared with the baseline."""
    sides = [_values(label, metric, side, where) for side, where in ((old, "the baseline"), (new, "the new results"))]
    baseline, now = (_mean(side) for side in sides)
    row = VerdictRow(
        label, metric.name, baseline, now, None, "unchanged",
        heading=metric.heading, per_cent=metric.per_cent, higher_is_better=metric.higher_is_better,
    )  # fmt: skip
    if baseline is None and now is None:
        return row._replace(note="it has no value on these images, neither then nor now")
    if baseline is None or now is None:
        where = "in the baseline" if baseline is None else "in the new results"
        return row._replace(verdict="FAILED", note=f"it has no value on these images {where}")
    down = up = float(rule) if rule != "noise" else 0.0
    if rule == "noise":
        found = _difference(metric, old, new, group)
        low, high = found.low - found.value, found.high - found.value
        down, up = (high, -low) if metric.higher_is_better else (-low, high)
    better = (now - baseline) * (1 if metric.higher_is_better else -1)
    verdict: Verdict = "within noise" if rule == "noise" else "allowed"
    if all(_same(metric, *pair) for pair in zip(old, new, strict=True)):
        verdict = "unchanged"
    elif better < -max(down, 0.0):
        verdict = "REGRESSION"
    elif better > max(up, 0.0):
        verdict = "improvement"
    return row._replace(allowed=max(down, 0.0), verdict=verdict)


def _reached(label: str, required: Required, runs: Sequence[Tallied], classes: Sequence[str]) -> VerdictRow | None:
    """Return the row of a value that must be reached; None where the metric is of a class of another dataset."""
    metric = resolved(required.metric, classes)
    if metric is None:
        return None
    found = _values(label, metric, runs, "the new results")
    row = VerdictRow(
        label, metric.name, None, None, None, "FAILED",
        heading=metric.heading, per_cent=metric.per_cent, higher_is_better=metric.higher_is_better,
        required=f"{required.sign} {required.value:g}",
    )  # fmt: skip
    value = _mean(found)
    if value is None:
        return row._replace(note="it has no value on these images in the new results")
    met = value >= required.value if required.least else value <= required.value
    return row._replace(now=value, verdict="met" if met else "NOT MET")


def _values(label: str, metric: Metric, runs: Sequence[Tallied], where: str) -> list[float | None]:
    if _lacks(metric, runs):
        instead = "make the baseline again with --update" if "baseline" in where else "let the run tally it"
        raise SegbenchError(f"{label}: {metric.name} needs tallies of {metric.family}, which {where} lack; {instead}")
    return [metric.on(run) for run in runs]


def _lacks(metric: Metric, runs: Sequence[Tallied]) -> bool:
    return metric.family != "counts" and any(metric.family not in run.tallies for run in runs)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _difference(metric: Metric, old: Sequence[Tallied], new: Sequence[Tallied], group: Sequence[Record]) -> Difference:
    """Return the difference of a metric, new - old, with its interval over images and over pairs of runs."""
    images = len(old[0].counts)
    if metric.name == "miou":
        sides = [np.stack([run.counts for run in side]) for side in (new, old)]
        drawn = resampled_miou(sides[0], old[0].absent, RESAMPLES) - resampled_miou(sides[1], old[0].absent, RESAMPLES)
    else:
        rng = np.random.default_rng(0)
        pairs = [(_only(metric, after), _only(metric, before)) for after, before in zip(new, old, strict=True)]
        picks = rng.integers(images, size=(SLOW_RESAMPLES, images))
        drawn = np.array(
            [np.mean([metric.of(a.take(own)) - metric.of(b.take(own)) for a, b in pairs]) for own in picks]
        )
    differences = np.array([metric.of(a) - metric.of(b) for a, b in zip(new, old, strict=True)])
    targets = [str(record.target.seed) for record in group]
    sources = [
        str(record.source.seed) if record.setting == "black-box" else own
        for record, own in zip(group, targets, strict=True)
    ]
    return of_pairs(differences, targets, sources, drawn, images)


def _only(metric: Metric, run: Tallied) -> Tallied:
    """Return a run with what a metric needs, so that taking images from it is quick."""
    return Tallied(run.counts, run.absent, {own: kept for own, kept in run.tallies.items() if own == metric.family})


def _same(metric: Metric, old: Tallied, new: Tallied) -> bool:
    """Whether nothing that a metric is computed from has changed."""
    if not np.array_equal(old.counts, new.counts):
        return False
    return metric.family == "counts" or np.array_equal(old.tallies[metric.family], new.tallies[metric.family])


def changed_versions(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a sentence on the packages whose versions changed since the baseline was made."""
    changed = [f"{name} {then[name]} -> {now[name]}" for name in then if name in now and then[name] != now[name]]
    return [f"since the baseline: {', '.join(changed)}"] if changed else []


def one_training(rows: Sequence[VerdictRow], then: Baseline, now: Baseline, allowed: Allowed) -> list[str]:
    """Return a sentence where "noise" is asked of networks that were trained anew, one training each."""
    before = {entry.label: entry for entry in then.entries}
    anew = [
        entry.label
        for entry in now.entries
        if entry.shape[0] == 1 and entry.label in before and before[entry.label].weights_sha256 != entry.weights_sha256
    ]
    if not anew or "noise" not in allowed.values() or not rows:
        return []
    return [
        f'{len(anew)} rows are of other weights, of one training each: there "noise" is that of the choice of images, '
        "and not that of another training; give more seeds, or allow a number"
    ]
