"""The content of a report, independent of the format in which it is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.labels import Labels
from segbench.reports.metrics.values import chosen
from segbench.reports.page.cards import Cards, reliability
from segbench.reports.page.facts import Facts, facts, failures
from segbench.reports.page.reading import Fate, fates_of, notes, signs
from segbench.reports.page.regions import regions
from segbench.reports.page.trust import trust
from segbench.reports.page.verdict import Line, verdict
from segbench.reports.published import beside, load
from segbench.reports.records import Manifest, Record
from segbench.reports.tables.corruptions import corruption_tables, without_many
from segbench.reports.tables.grid import Cell, Table
from segbench.reports.tables.inference import infer
from segbench.reports.tables.layouts import layouts
from segbench.reports.tables.metrics import metric_tables
from segbench.reports.tables.paper import comparisons, shown
from segbench.reports.tables.standing import strongest, with_standing


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        table: the table.
        notes: sentences that a reader needs to understand the table.
        fates: clean and worst mIoU of each network; empty if an earlier section shows the same.
    """

    table: Table
    notes: tuple[str, ...]
    fates: tuple[Fate, ...]


@dataclass(frozen=True)
class Page:
    """The content of a report.

    Attributes:
        title: the title.
        verdict: the numbers in at most five lines; empty if there are no numbers under attack.
        sections: the tables that the report shows.
        cards: a card for each network, with what it stands and what it does not.
        tables: the tables of all defenses, shown or not; figures are drawn from them.
        trust: flags, measurements and worst cases, which say whether the attacks were strong enough.
        regions: what patches leave around them, and which objects were hidden.
        failures: failed evaluations with their reasons.
        facts: provenance: protocols, threat models, networks, software.
        records: all records, in order.
        labels: the labels of components and networks.
        status: the numbers of done, failed, missing and impossible evaluations, in words.
    """

    title: str
    verdict: tuple[Line, ...]
    sections: tuple[Section, ...]
    cards: tuple[Cards, ...]
    tables: tuple[Table, ...]
    trust: tuple[Facts, ...]
    regions: tuple[Facts, ...]
    failures: Facts | None
    facts: tuple[Facts, ...]
    records: tuple[Record, ...]
    labels: Labels
    status: str


def compose(
    manifest: Manifest, *, provenance: bool = False, published: str | None = None, evidence: Evidence = NOTHING
) -> Page:
    """Return the content of a report.

    Args:
        manifest: the evaluations of a matrix, with the scores of those that are done.
        provenance: also show durations and other values that differ between two runs of one evaluation.
        published: name of a paper whose values are shown beside yours (see `segbench.reports.published`).
        evidence: the data behind the records.
    """
    records = tuple({record.digest: record for record in manifest.records}.values())
    labels = Labels(records, manifest.labels)
    single = without_many(records, labels)
    others = strongest(records, labels)
    plain = with_standing(layouts(single, labels), others, labels)
    special = with_standing(comparisons(single, labels), others, labels)
    tables = infer(shown(plain, special), evidence.counts)
    further = metric_tables(tables, chosen(manifest.metrics, records), evidence)
    corruptions = corruption_tables(records, labels, manifest.reference, evidence)
    status = _status(records)
    if published is not None:
        own, tables = tables, beside(tables, load(published), labels.name)
        if own == tables:
            status += f"; {published} holds no value for any of them"
    return Page(
        title=manifest.title,
        verdict=verdict(plain, evidence),
        sections=tuple(_sections([*_with_metrics(tables, further), *corruptions])),
        cards=reliability(records, labels, evidence),
        tables=tuple(plain),
        trust=trust(records, labels, evidence),
        regions=regions(records, labels),
        failures=failures(records, labels),
        facts=facts(records, labels, provenance=provenance),
        records=records,
        labels=labels,
        status=status,
    )


def _with_metrics(tables: Sequence[Table], further: Sequence[Table]) -> list[Table]:
    """Put each table of metrics behind its table of mIoU."""
    return [own for pair in zip(tables, further, strict=True) for own in pair] if further else list(tables)


def _sections(tables: Sequence[Table]) -> Iterator[Section]:
    """Yield a section per table; the same fates are shown once."""
    told: set[Fate] = set()
    for table in tables:
        if table.metrics:
            yield Section(table, tuple(dict.fromkeys([*table.remarks, *signs(table)])), ())
            continue
        fates = fates_of(table)
        yield Section(table, tuple(notes(table)), () if told.issuperset(fates) else tuple(fates))
        told.update(fates)


def explain(cell: Cell) -> str:
    """Return everything known of a cell, in words: "41.25; standard deviation 1.30; runs 40.33, 42.17"."""
    if cell.mean is None and cell.published is not None:
        return f"not run; {_published(cell)}"
    if cell.state == "not applicable":
        return "; ".join(dict.fromkeys(run.error for run in cell.records if run.error)) or "not applicable"
    if cell.mean is None:
        return {"missing": "not run yet", "no value": "it has no value here"}.get(cell.state, cell.state)
    parts = [cell.text(cell.mean, 1)]
    if cell.std is not None:
        parts.append(f"standard deviation {cell.text(cell.std, 1)}")
    if cell.low is not None and cell.high is not None:
        parts.append(f"95 % interval {cell.text(cell.low, 1)} to {cell.text(cell.high, 1)}")
    if cell.done > 1:
        runs = ", ".join(cell.text(value, 1) for value in cell.values)
        parts.append(f"runs {runs}" if cell.done <= 8 else f"{cell.done} runs")
    if cell.state == "partial":
        parts.append(f"{cell.done} of {cell.expected} runs done")
    if cell.significant:
        parts.append("significantly above the second")
    if cell.published is not None:
        parts.append(_published(cell))
    parts += [f"flagged {flag}" for flag in cell.flags]
    if cell.stands_by:
        parts.append(f"ranked by {cell.stands_by}: {cell.stands:.2f}")
    return "; ".join(parts)


def _published(cell: Cell) -> str:
    value = cell.published
    if value is None or value.mean is None:
        return "published value not known"
    spread = "" if value.std is None else f" with standard deviation {value.std:.1f}"
    own = "" if cell.difference is None else f" (difference {cell.difference:+.1f})"
    return f"published {value.mean:.1f}{spread}{own}"


def _status(records: Sequence[Record]) -> str:
    others = ("failed", "missing", "not applicable")
    counts = {status: sum(record.status == status for record in records) for status in ("done", *others)}
    parts = [f"{counts['done']:,} of {len(records):,} evaluations done"]
    parts += [f"{counts[status]:,} {status}" for status in others if counts[status]]
    return ", ".join(parts)
