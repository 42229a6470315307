"""Tables of common corruptions: the mean over severities of each kind, and what is said of all of them together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segbench.reports.corruptions import (
    FAMILIES,
    Place,
    Values,
    comparable_kinds,
    counted,
    family_of,
    kinds_in_order,
    mce,
    mean_corrupted,
    mean_of,
    place_of,
    relative_mce,
    retained,
)
from segbench.reports.differences import over_runs, resampled_miou, trainings
from segbench.reports.evidence import Evidence
from segbench.reports.labels import Labels, NetworkKey
from segbench.reports.records import Network, Record
from segbench.reports.statistics import Floats, Interval
from segbench.reports.tables.grid import Block, Cell, Column, Row, State, Table
from segbench.reports.tables.layouts import conditions, ranked, row_label

MOST_SINGLE = 6
"""Corruptions that the tables of attacks show, a column each; where there are more, only a table of their own does."""

ALL_KINDS = "all kinds"
"""The group of columns that say something of all kinds together."""


@dataclass(frozen=True)
class Corrupted:
    """One training of a network on clean images and under corruptions.

    Attributes:
        clean: its record on clean images, or None.
        records: its records under corruption, by kind and severity.
    """

    clean: Record | None
    records: Mapping[Place, Record]

    @property
    def values(self) -> Values:
        """The mIoU of those records that are done, by kind and severity."""
        return {place: run.scores.miou for place, run in self.records.items() if run.scores}

    @property
    def complete(self) -> bool:
        """Whether all its records under corruption are done."""
        return len(self.values) == len(self.records)

    @property
    def clean_miou(self) -> float | None:
        """The mIoU on clean images."""
        return self.clean.scores.miou if self.clean is not None and self.clean.scores else None


def without_many(records: Sequence[Record], labels: Labels) -> list[Record]:
    """Leave out corruptions where they are too many for a column each.

    Args:
        records: the records.
        labels: the labels of their components.
    """
    many: set[str] = set()
    for _, own in conditions(records, labels):
        found = [run for run in own if place_of(run.attack) is not None]
        if len({place_of(run.attack) for run in found}) > MOST_SINGLE:
            many.update(run.digest for run in found)
    return [record for record in records if record.digest not in many]


def corruption_tables(records: Sequence[Record], labels: Labels, reference: str, evidence: Evidence) -> list[Table]:
    """Return a table of corruptions for each set of comparable records that holds two of them.

    Args:
        records: the records, in the order of the matrix.
        labels: the labels of their components.
        reference: the network that errors are divided by; empty for none.
        evidence: the source of counts, for intervals.

    Raises:
        ValueError: several networks can be meant by the reference.
    """
    tables: list[Table] = []
    for where, own in conditions(records, labels):
        networks = corrupted(own, labels)
        places = list(dict.fromkeys(place for runs in networks.values() for run in runs for place in run.records))
        if len(places) > 1:
            name = f"corruptions-{len(tables) + 1}"
            tables.append(_table(name, where, networks, places, labels, reference, evidence))
    return tables


def corrupted(records: Sequence[Record], labels: Labels) -> dict[NetworkKey, list[Corrupted]]:
    """Return the trainings of every network that was evaluated under corruption.

    Args:
        records: comparable records.
        labels: the labels of their components.
    """
    found: dict[NetworkKey, dict[str, dict[Place, Record]]] = {}
    clean: dict[str, Record] = {}
    for record in records:
        place = place_of(record.attack)
        if record.setting == "clean":
            clean[record.target.digest] = record
        elif place is not None and record.setting == "white-box":
            runs = found.setdefault(labels.key(record.target), {})
            runs.setdefault(record.target.digest, {})[place] = record
    return {key: [Corrupted(clean.get(d), own) for d, own in runs.items()] for key, runs in found.items()}


def mean_interval(runs: Sequence[Corrupted], evidence: Evidence) -> Interval | None:
    """Return the mean mIoU under corruption of complete runs, with a 95 % interval over images and runs.

    Args:
        runs: trainings of one network.
        evidence: the source of counts.

    Returns:
        Value and interval; None where counts are gone.
    """
    drawn = [_drawn(run, evidence) for run in runs]
    known = [own for own in drawn if own is not None]
    if not runs or len(known) < len(runs):
        return None
    firsts = [next(iter(run.records.values())) for run in runs]
    values = np.array([mean_corrupted(run.values) for run in runs])
    found = over_runs(values, *trainings(firsts), np.mean(known, axis=0), firsts[0].n_images or 1)
    return Interval(found.value, max(0.0, found.low), min(100.0, found.high))


def _drawn(run: Corrupted, evidence: Evidence) -> Floats | None:
    """Return the mean mIoU under corruption in bootstrap samples that take the same images under every corruption."""
    kinds = counted(kind for kind, _ in run.records)
    by_kind: dict[str, list[Floats]] = {}
    for (kind, _), record in run.records.items():
        if kind in kinds:
            counts = evidence.counts(record.digest)
            if counts is None:
                return None
            by_kind.setdefault(kind, []).append(resampled_miou(counts[None], record.absent))
    return np.asarray(np.mean([np.mean(own, axis=0) for own in by_kind.values()], axis=0))


def named(reference: str, networks: Sequence[Network], labels: Labels) -> NetworkKey | None:
    """Return the key of the network that a text names: its label, its model, or both parts in full; None without one.

    Args:
        reference: such as "pspnet" or "pspnet with none".
        networks: the networks.
        labels: their labels.

    Raises:
        ValueError: the text can mean several.
    """
    found = {}
    for network in networks:
        models = (labels.model(network), network.model.name, network.model.short)
        defenses = (labels.defense(network), network.defense.name, network.defense.short)
        if reference in (
            labels.network(network),
            *models,
            *(f"{model} with {defense}" for model in models for defense in defenses),
        ):
            found[labels.key(network)] = labels.network(network)
    if len(found) > 1:
        raise ValueError(f"reference: {reference} can be {', '.join(found.values())}; name one of these")
    return next(iter(found), None)


def _table(
    name: str,
    where: str,
    networks: Mapping[NetworkKey, Sequence[Corrupted]],
    places: Sequence[Place],
    labels: Labels,
    reference: str,
    evidence: Evidence,
) -> Table:
    targets = [_first(runs).target for runs in networks.values()]
    key = named(reference, targets, labels) if reference else None
    against = _reference(networks[key]) if key is not None else None
    remarks = _remarks(reference, against, places)
    kinds = kinds_in_order(places)
    columns = _columns(kinds, against is not None)
    blocks: dict[str, list[Row]] = {}
    for runs in networks.values():
        first = _first(runs)
        cells = _cells(runs, kinds, against, evidence)
        row = Row(row_label(first, labels), tuple(cells), apart=first.dynamic)
        blocks.setdefault(labels.model(first.target), []).append(row)
    laid = tuple(Block(model, ranked(rows)) for model, rows in blocks.items())
    return Table(
        name=name,
        setting="white-box",
        heading=f"Corruptions: {where}",
        caption=_caption(kinds, places, _first(next(iter(networks.values())))),
        columns=columns,
        blocks=laid,
        remarks=remarks,
        metrics=tuple(dict.fromkeys(column.metric for column in columns)),
    )


def _first(runs: Sequence[Corrupted]) -> Record:
    return next(iter(runs[0].records.values()))


def _reference(runs: Sequence[Corrupted]) -> tuple[Values, float | None] | None:
    """Return the reference's mean mIoU over its complete trainings, by place and on clean images."""
    done = [run for run in runs if run.complete]
    if not done:
        return None
    cleans = [run.clean_miou for run in done if run.clean_miou is not None]
    values = {place: statistics.fmean(run.values[place] for run in done) for place in done[0].values}
    return values, statistics.fmean(cleans) if len(cleans) == len(done) else None


def _columns(kinds: Sequence[str], with_reference: bool) -> tuple[Column, ...]:
    together = [("clean", "miou"), ("corrupted", "miou"), ("retained", "retained")]
    together += [("mCE", "mce"), ("relative mCE", "relative_mce")] if with_reference else []
    return (
        *(Column(f"{label}: {label}", ALL_KINDS, label, None, metric=metric) for label, metric in together),
        *(Column(f"corruption({kind}): {kind}", family_of(kind), kind.replace("_", " "), None) for kind in kinds),
    )


def _cells(
    runs: Sequence[Corrupted],
    kinds: Sequence[str],
    against: tuple[Values, float | None] | None,
    evidence: Evidence,
) -> list[Cell]:
    done = [run for run in runs if run.complete]
    both = [(run.values, run.clean_miou) for run in done]
    clean = [own.clean_miou for own in runs if own.clean_miou is not None]
    mean = _cell(runs, [mean_corrupted(values) for values, _ in both])
    interval = mean_interval(done, evidence) if mean.state == "done" else None
    if interval is not None:
        mean = replace(mean, low=interval.low, high=interval.high)
    cells = [
        _cell(runs, clean, [run.clean for run in runs if run.clean is not None]),
        mean,
        _cell(runs, [retained(values, own) for values, own in both if own]),
    ]
    if against is not None:
        reference, reference_clean = against
        comparable = [(v, c) for v, c in both if v.keys() == reference.keys()]
        relative = [
            relative_mce(values, own, reference, reference_clean)
            for values, own in comparable
            if own is not None and reference_clean is not None
        ]
        errors = [mce(values, reference) for values, _ in comparable]
        cells += [
            replace(_cell(runs, [value for value in found if value is not None]), higher_is_better=False)
            for found in (errors, relative)
        ]
    for kind in kinds:
        own_runs = [[r for (k, _), r in run.records.items() if k == kind] for run in runs]
        whole = [run for run, own in zip(runs, own_runs, strict=True) if own and all(r.scores for r in own)]
        values = [mean_of(run.values, kind) for run in whole]
        cells.append(_cell(runs, values, [record for own in own_runs for record in own]))
    return cells


def _cell(runs: Sequence[Corrupted], values: Sequence[float], records: Sequence[Record] | None = None) -> Cell:
    """Return a cell of values, one for each training that has it."""
    if records is None:
        records = [record for run in runs for record in run.records.values()]
    if not values:
        return Cell(_without_value(records), expected=len(runs), records=tuple(records))
    return Cell(
        state="done" if len(values) == len(runs) else "partial",
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        done=len(values),
        expected=len(runs),
        records=tuple(records),
        values=tuple(values),
    )


def _without_value(records: Sequence[Record]) -> State:
    states = {record.status for record in records}
    undone: tuple[State, ...] = ("failed", "missing", "not applicable")
    return next((state for state in undone if state in states), "no value" if records else "not asked for")


def _remarks(reference: str, against: tuple[Values, float | None] | None, places: Sequence[Place]) -> tuple[str, ...]:
    if not reference:
        return ("mCE and relative mCE need a reference network: report: {reference: NAME} in the matrix.",)
    if against is None:
        return (f"The reference network, {reference}, has no complete values here, so that there is no mCE.",)
    values, clean = against
    found = [
        f"The reference network is {reference}, whose errors under corruption are 100 %. The error is 100 - mIoU, "
        "summed over severities; relative errors are those beyond the error on clean images. mCE and relative mCE are "
        "means over kinds (Hendrycks and Dietterich 2019; for segmentation Kamann and Rother 2020); lower is better."
    ]
    if clean is not None:
        kinds = counted(kind for kind, _ in places)
        lacking = [kind for kind in kinds if kind not in comparable_kinds(values, clean)]
        if lacking:
            found.append(f"Relative mCE leaves out {', '.join(lacking)}: the reference loses nothing there.")
    return tuple(found)


def _caption(kinds: Sequence[str], places: Sequence[Place], record: Record) -> str:
    severities = sorted({severity for _, severity in places})
    own, held_out = counted(kinds), [kind for kind in kinds if kind in FAMILIES["held out"]]
    over = f"severities {', '.join(map(str, severities))}" if len(severities) > 1 else f"severity {severities[0]}"
    text = (
        f"mIoU in per cent, means over {over}. Corrupted is the mean over "
        f"{'one kind' if len(own) == 1 else f'{len(own)} kinds'}, and retained its share of the clean mIoU."
    )
    if held_out and len(own) < len(kinds):
        those = "the kind" if len(held_out) == 1 else f"the {len(held_out)} kinds"
        text += f" It leaves out {those} that the benchmark holds out."
    images = f"{record.n_images:,} images, " if record.n_images is not None else ""
    return f"{text} {images}protocol {record.protocol.short}. Best of each model in bold, second underlined."
