"""Five numbers of a network: on clean images, under attack, under corruption, in bad weather, and its calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from segbench.reports.corruptions import counted, mean_corrupted
from segbench.reports.differences import over_runs, resampled_miou, trainings
from segbench.reports.evidence import Evidence
from segbench.reports.labels import Labels
from segbench.reports.metrics.registry import metric
from segbench.reports.metrics.resampled import resampled
from segbench.reports.metrics.values import tallied_of, value_of
from segbench.reports.records import Record
from segbench.reports.statistics import Floats
from segbench.reports.tables.corruptions import corrupted, mean_interval
from segbench.reports.tables.standing import Other

WEATHER = "acdc"
"""The dataset of road scenes in fog, at night, in rain and in snow."""
CALIBRATION = metric("ece")


@dataclass(frozen=True)
class Measured:
    """A number of one network.

    Attributes:
        value: its mean over the network's trainings; None where it was not evaluated.
        low: lower end of its 95 % interval, or None.
        high: upper end of that interval, or None.
        how: under what it was measured; may be empty.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    how: str = ""


NOTHING = Measured()


def on_clean(records: Sequence[Record], evidence: Evidence) -> Measured:
    """Return the mIoU on clean images.

    Args:
        records: all records of one network that may be compared.
        evidence: the source of counts.
    """
    return _miou([record for record in records if record.setting == "clean"], evidence, "")


def under_attack(records: Sequence[Record], others: dict[str, Other], labels: Labels, evidence: Evidence) -> Measured:
    """Return the mIoU under the white-box attack that leaves least, once all of them are done; corruptions are none.

    Args:
        records: all records of one network that may be compared.
        others: what records whose gradient is not to be trusted are ranked by, by their digest.
        labels: the labels of attacks.
        evidence: the source of counts.
    """
    attacks: dict[str, list[Record]] = {}
    for record in records:
        if record.setting == "white-box" and record.threat.access != "none" and not record.oblivious:
            attacks.setdefault(labels.component("attack", record.attack), []).append(record)
    found = []
    for label, runs in attacks.items():
        undone = [run for run in runs if not run.scores]
        if any(run.status != "not applicable" for run in undone):
            return Measured(how=f"{label} is {undone[0].status}")
        if undone:
            continue
        stands = [others[run.digest] for run in runs if run.digest in others]
        measured = _miou(runs, evidence, f"under {label}")
        if stands and measured.value is not None:
            own = [others[r.digest].miou if r.digest in others else r.scores.miou for r in runs if r.scores]
            by = " and ".join(dict.fromkeys(other.label for other in stands if other.label))
            measured = Measured(fmean(own), how=f"under {by or label}; the gradient is not to be trusted")
        found.append(measured)
    return min(found, key=lambda own: own.value or 0.0, default=NOTHING)


def under_corruption(records: Sequence[Record], labels: Labels, evidence: Evidence) -> Measured:
    """Return the mean mIoU over kinds and severities of corruption.

    Args:
        records: all records of one network that may be compared.
        labels: the labels of networks.
        evidence: the source of counts.
    """
    runs = next(iter(corrupted(records, labels).values()), [])
    if not runs or not all(run.complete for run in runs):
        return NOTHING
    there = {place for run in runs for place in run.records}
    kinds = counted(kind for kind, _ in there)
    places = [place for place in there if place[0] in kinds]
    how = f"mean of {len(places)} corruptions of {len(kinds)} {'kind' if len(kinds) == 1 else 'kinds'}"
    found = mean_interval(runs, evidence)
    if found is None:
        return Measured(fmean(mean_corrupted(run.values) for run in runs), how=how)
    return Measured(*found, how)


def in_weather(conditions: Sequence[Sequence[Record]], evidence: Evidence) -> Measured:
    """Return the mean over conditions of the mIoU on clean images of bad weather.

    Args:
        conditions: for each condition, the network's records on clean images.
        evidence: the source of counts.
    """
    whole = [own for own in conditions if own and all(record.scores for record in own)]
    if not whole or len(whole) < len(conditions):
        return NOTHING
    names = ", ".join(str(own[0].dataset.options.get("condition") or own[0].dataset.short) for own in whole)
    how = f"mean over {names}" if len(whole) > 1 else f"on {names}"
    if len(whole) == 1:
        return _miou(whole[0], evidence, how)
    values = np.mean([[record.scores.miou for record in own if record.scores] for own in whole], axis=0)
    drawn = [_drawn(own, evidence) for own in whole]
    known = [own for own in drawn if own is not None]
    if len(known) < len(whole):
        return Measured(float(values.mean()), how=how)
    # Each condition has images of its own, which are drawn independently of the others.
    together = np.mean([np.roll(own, 37 * index) for index, own in enumerate(known)], axis=0)
    images = sum(own[0].n_images or 0 for own in whole)
    return _with_interval(values, whole[0], together, images, how, most=100.0)


def calibrated(records: Sequence[Record], evidence: Evidence) -> Measured:
    """Return the expected calibration error on clean images.

    Args:
        records: all records of one network that may be compared.
        evidence: the source of tallies.
    """
    runs = [record for record in records if record.setting == "clean"]
    found = [value_of(run, CALIBRATION, evidence) for run in runs if run.scores]
    values = [value for value in found if value is not None and not np.isnan(value)]
    if not values or len(values) < len(runs):
        return NOTHING
    tallied = [own for own in (tallied_of(run, CALIBRATION, evidence) for run in runs) if own is not None]
    how = "expected calibration error, clean; lower is better"
    if len(tallied) < len(runs):
        return Measured(fmean(values), how=how)
    drawn = np.mean([resampled(CALIBRATION, own) for own in tallied], axis=0)
    return _with_interval(np.array(values), runs, drawn, len(tallied[0].counts), how, most=1.0)


def _miou(runs: Sequence[Record], evidence: Evidence, how: str) -> Measured:
    """Return the mean mIoU of runs, with the interval of the record where there is one run."""
    scores = [run.scores for run in runs if run.scores]
    if not scores or len(scores) < len(runs):
        return NOTHING
    if len(runs) == 1:
        return Measured(scores[0].miou, scores[0].miou_low, scores[0].miou_high, how)
    values, drawn = np.array([own.miou for own in scores]), _drawn(runs, evidence)
    if drawn is None:
        return Measured(float(values.mean()), how=how)
    return _with_interval(values, runs, drawn, runs[0].n_images or 1, how, most=100.0)


def _drawn(runs: Sequence[Record], evidence: Evidence) -> Floats | None:
    """Return the mean mIoU over runs in bootstrap samples of the images; None where counts are gone."""
    counts = [own for own in (evidence.counts(run.digest) for run in runs) if own is not None]
    return resampled_miou(np.stack(counts), runs[0].absent) if len(counts) == len(runs) else None


def _with_interval(
    values: Floats, runs: Sequence[Record], drawn: Floats, images: int, how: str, *, most: float
) -> Measured:
    found = over_runs(values, *trainings(runs), drawn, images)
    if np.isnan(found.low):
        return Measured(found.value, how=how)
    return Measured(found.value, max(0.0, found.low), min(most, found.high), how)
