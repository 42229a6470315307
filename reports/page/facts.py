"""The provenance of the numbers of a report, and the evaluations that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segbench.reports.corruptions import kinds_in_order, place_of
from segbench.reports.display import norm_label
from segbench.reports.labels import Labels
from segbench.reports.numbers import number
from segbench.reports.origins import described
from segbench.reports.records import Network, Record, RecordedThreat
from segbench.reports.tables.corruptions import MOST_SINGLE
from segbench.reports.threats import bound_in_words, region_in_words

STEADY = ("versions", "git_revision", "platform", "device", "threads", "memory_format")
"""Parts of the provenance that stay the same if a run is repeated on the same machine."""


@dataclass(frozen=True)
class Facts:
    """A small table of text.

    Attributes:
        heading: the heading above it.
        columns: the heads of its columns.
        rows: its rows.
        caption: a sentence on how to read it; may be empty.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def failures(records: Sequence[Record], labels: Labels) -> Facts | None:
    """Return the failed evaluations with their reasons; None if no evaluation failed.

    Args:
        records: the records.
        labels: the labels of components and networks.
    """
    rows = tuple(
        (
            labels.network(record.target),
            str(record.target.seed),
            labels.component("attack", record.attack),
            _made_on(record, labels),
            record.error or "no reason was kept",
        )
        for record in records
        if record.status == "failed"
    )
    return Facts("Failed evaluations", ("network", "seed", "attack", "made on", "why"), rows) if rows else None


def _made_on(record: Record, labels: Labels) -> str:
    if record.source.digest != record.target.digest:
        return labels.network(record.source)
    return "itself without its defense" if record.oblivious else "itself"


def facts(records: Sequence[Record], labels: Labels, *, provenance: bool) -> tuple[Facts, ...]:
    """Return the provenance of the numbers: data, protocol, threat models, networks, recipes, software.

    Args:
        records: the records.
        labels: the labels of components and networks.
        provenance: also show durations and other values that differ between two runs of one evaluation.
    """
    networks = _networks(records)
    done = any(record.status == "done" for record in records)
    found = [
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
            ("attack", "in a matrix", "norm", "eps", "largest change made", "uses", "options"),
            _threats(records, labels),
        ),
        _unique(
            "Networks",
            ("model", "defense", "seed", "weights (SHA-256)"),
            [(labels.model(n), labels.defense(n), str(n.seed), n.weights_sha256 or "-") for n in networks],
        ),
        _unique(
            "Networks from elsewhere",
            ("network", "seed", "what was loaded"),
            [
                (labels.network(n), str(n.seed), "; ".join(f"{what}: {text}" for what, text in described(n.origin)))
                for n in networks
                if n.origin is not None
            ],
        ),
        _unique("Recipes", ("defenses", "recipe"), _recipes(networks, labels)),
        _unique("Software and hardware", ("what", "value"), _provenance(records, provenance)),
    ]
    return tuple(own for own in found if own.rows)


def _unique(heading: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Facts:
    return Facts(heading, columns, tuple(dict.fromkeys(rows)))


def _threats(records: Sequence[Record], labels: Labels) -> list[tuple[str, ...]]:
    largest: dict[str, float] = {}
    for record in records:
        if record.budget_used is not None:
            largest[record.attack.short] = max(largest.get(record.attack.short, 0.0), record.budget_used)
    attacks = {(r.attack.short, r.threat.norm, r.threat.eps, r.threat.region): r for r in records}
    places = {place: key for key, r in attacks.items() if (place := place_of(r.attack)) is not None}
    if len(places) > MOST_SINGLE:
        attacks = {key: r for key, r in attacks.items() if key not in places.values()}
    rows: list[tuple[str, ...]] = [
        (
            labels.component("attack", r.attack),
            r.attack.short,
            _norm(r.threat),
            number(r.threat.eps),
            number(largest.get(r.attack.short)) if r.attack.short in largest else "-",
            {"none": "nothing"}.get(r.threat.access, r.threat.access),
            _pairs(r.attack.options),
        )
        for r in attacks.values()
    ]
    if len(places) > MOST_SINGLE:
        kinds = f"kind={_text(kinds_in_order(places))}, severity={_text(sorted({own for _, own in places}))}"
        rows.append((f"corruption ({len(places)} of them)", "corruption", "none", "none", "-", "nothing", kinds))
    return rows


def _norm(threat: RecordedThreat) -> str:
    """Return the norm of a threat model, and the region where there is one."""
    if threat.region == "patch":
        return bound_in_words(threat)
    return norm_label(threat.norm) + (f", {region_in_words(threat)}" if threat.region not in (None, "all") else "")


def _networks(records: Sequence[Record]) -> list[Network]:
    """Return every network once, with the hash of its weights if a record has it."""
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
            if key in STEADY and value is not None:
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
