"""What a report says, before it is written in any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.evidence import Evidence
from reports.inference import infer
from reports.labels import Labels
from reports.layouts import Cell, Table, layouts, number
from reports.published import beside, load
from reports.reading import Fate, fates_of, notes, reading
from reports.records import Manifest, Network, Record

STEADY = ("versions", "git_revision", "platform", "device", "threads", "memory_format")
"""Provenance that is the same whenever the same run is repeated on the same machine."""


@dataclass(frozen=True)
class Section:
    """A table, what must be known to read it right, and what is left of each network under its worst attack."""

    table: Table
    notes: tuple[str, ...]
    fates: tuple[Fate, ...]


@dataclass(frozen=True)
class Facts:
    """A small table of facts: a head and rows of text."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: its head.
        reading: what its numbers say, in two sentences; empty where there are none.
        sections: the tables.
        failures: evaluations that failed, and why.
        facts: provenance: protocols, threat models, networks, software.
        records: all records, in order.
        labels: names of components and networks.
        status: how many evaluations are done, failed and missing, in words.
    """

    title: str
    reading: str
    sections: tuple[Section, ...]
    failures: Facts | None
    facts: tuple[Facts, ...]
    records: tuple[Record, ...]
    labels: Labels
    status: str


def compose(
    manifest: Manifest, *, provenance: bool = False, published: str | None = None, evidence: Evidence | None = None
) -> Page:
    """Gather what a report says.

    Args:
        manifest: a matrix's evaluations, with scores where they are done.
        provenance: add durations and whatever else differs between two runs of the same evaluation.
        published: name of a paper whose values stand beside one's own (see `reports.published`).
        evidence: what lies behind the records, where it is at hand.
    """
    records = tuple({record.digest: record for record in manifest.records}.values())
    labels = Labels(records)
    tables = layouts(records, labels)
    if evidence is not None:
        tables = infer(tables, evidence.counts)
    if published is not None:
        tables = beside(tables, load(published))
    return Page(
        title=manifest.title,
        reading=reading(tables),
        sections=tuple(Section(table, tuple(notes(table)), tuple(fates_of(table))) for table in tables),
        failures=_failures(records, labels),
        facts=tuple(facts for facts in _facts(records, labels, provenance) if facts.rows),
        records=records,
        labels=labels,
        status=_status(records),
    )


def explain(cell: Cell) -> str:
    """Say all that is known of a cell, in words."""
    if cell.mean is None and cell.published is not None:
        return f"not run; {_published(cell)}"
    if cell.mean is None:
        return {"failed": "failed", "missing": "not run yet"}.get(cell.state, "not asked for")
    parts = [f"{cell.mean:.2f}"]
    if cell.std is not None:
        parts.append(f"standard deviation {cell.std:.2f}")
    if cell.low is not None and cell.high is not None:
        parts.append(f"95 % interval {cell.low:.2f} to {cell.high:.2f}")
    if cell.done > 1:
        runs = ", ".join(f"{run.scores.miou:.2f}" for run in cell.records if run.scores)
        parts.append(f"runs {runs}" if cell.done <= 8 else f"{cell.done} runs")
    if cell.state == "partial":
        parts.append(f"{cell.done} of {cell.expected} runs done")
    if cell.significant:
        parts.append("significantly above the second")
    if cell.published is not None:
        parts.append(_published(cell))
    parts += [f"flagged {flag}" for flag in cell.flags]
    return "; ".join(parts)


def _published(cell: Cell) -> str:
    value = cell.published
    if value is None or value.mean is None:
        return "published value not known"
    spread = "" if value.std is None else f" with standard deviation {value.std:.1f}"
    own = "" if cell.difference is None else f" (difference {cell.difference:+.1f})"
    return f"published {value.mean:.1f}{spread}{own}"


def _status(records: Sequence[Record]) -> str:
    counts = {status: sum(record.status == status for record in records) for status in ("done", "failed", "missing")}
    parts = [f"{counts['done']:,} of {len(records):,} evaluations done"]
    parts += [f"{counts[status]:,} {status}" for status in ("failed", "missing") if counts[status]]
    return ", ".join(parts)


def _failures(records: Sequence[Record], labels: Labels) -> Facts | None:
    rows = tuple(
        (
            labels.network(record.target),
            str(record.target.seed),
            labels.component("attack", record.attack),
            "itself" if record.source.digest == record.target.digest else labels.network(record.source),
            record.error or "no reason was kept",
        )
        for record in records
        if record.status == "failed"
    )
    return Facts("Failed evaluations", ("network", "seed", "attack", "made on", "why"), rows) if rows else None


def _facts(records: Sequence[Record], labels: Labels, provenance: bool) -> list[Facts]:
    networks = _networks(records)
    done = any(record.status == "done" for record in records)
    return [
        _unique(
            "Data and protocol",
            ("dataset", "split", "images", "fingerprint", "protocol", "absent classes"),
            [
                (
                    r.dataset.short,
                    r.split,
                    str(r.n_images) if r.n_images is not None else "-",
                    r.data_fingerprint,
                    r.protocol.short,
                    "left out" if r.absent == "skip" else "count 0",
                )
                for r in records
                if r.status == "done" or not done
            ],
        ),
        _unique(
            "Threat models",
            ("attack", "norm", "eps", "largest change made", "uses", "options"),
            _threats(records),
        ),
        _unique(
            "Networks",
            ("model", "defense", "seed", "weights (SHA-256)"),
            [(labels.model(n), labels.defense(n), str(n.seed), n.weights_sha256 or "-") for n in networks],
        ),
        _unique("Recipes", ("defenses", "recipe"), _recipes(networks, labels)),
        _unique("Software and hardware", ("what", "value"), _provenance(records, provenance)),
    ]


def _unique(heading: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Facts:
    return Facts(heading, columns, tuple(dict.fromkeys(rows)))


def _threats(records: Sequence[Record]) -> list[tuple[str, ...]]:
    largest: dict[str, float] = {}
    for record in records:
        if record.budget_used is not None:
            largest[record.attack.short] = max(largest.get(record.attack.short, 0.0), record.budget_used)
    attacks = {(r.attack.short, r.threat.norm, r.threat.eps): r for r in records}
    return [
        (
            r.attack.short,
            r.threat.norm or "none",
            number(r.threat.eps),
            number(largest.get(r.attack.short)) if r.attack.short in largest else "-",
            {"none": "nothing"}.get(r.threat.access, r.threat.access),
            _pairs(r.attack.options),
        )
        for r in attacks.values()
    ]


def _networks(records: Sequence[Record]) -> list[Network]:
    """Return every network once, with its weights' hash if a record has it."""
    found: dict[str, Network] = {}
    for record in records:
        for network in (record.target, record.source):
            known = found.get(network.digest)
            if known is None or (known.weights_sha256 is None and network.weights_sha256 is not None):
                found[network.digest] = network
    return list(found.values())


def _recipes(networks: Sequence[Network], labels: Labels) -> list[tuple[str, ...]]:
    defenses: dict[str, dict[str, None]] = {}
    for network in networks:
        if network.recipe:
            defenses.setdefault(_pairs(network.recipe), {})[labels.defense(network)] = None
    return [(", ".join(names), recipe) for recipe, names in defenses.items()]


def _provenance(records: Sequence[Record], everything: bool) -> list[tuple[str, ...]]:
    values: dict[str, dict[str, None]] = {}
    for record in records:
        for key, value in sorted(record.provenance.items()):
            if key in STEADY:
                values.setdefault(key, {})[_text(value)] = None
    rows = [(key.replace("_", " "), value) for key in STEADY for value in sorted(values.get(key, {}))]
    if everything:
        rows += [
            (key.replace("_", " "), _text(value) + f" ({record.digest[:12]})")
            for record in records
            for key, value in sorted(record.provenance.items())
            if key not in STEADY
        ]
    return list(rows)


def _pairs(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_text(value)}" for key, value in options.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(inner) for inner in value)}]"
    return str(value)
