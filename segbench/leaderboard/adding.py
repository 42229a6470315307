"""Leaderboard entries made from the records of a store. Networks that differ only in their seed become one model.

The worst cases over sets of attacks that a matrix defines are left out: their sets are a choice of its author, and a
board ranks by the worst of all attacks anyway. Every entry of a network holds its result on clean images.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from segbench.errors import SegbenchError
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.leaderboard.summing import summed
from segbench.reports.comparable import condition
from segbench.reports.labels import Labels, NetworkKey, component_key
from segbench.reports.leaderboard.entries import BoardThreat, Entry, Links, Model, Procedure, ScoredData, Weights
from segbench.reports.records import Component, Network, Record
from segbench.reports.sanity import flagged
from segbench.store import Store
from segbench.zoo import networks as zoo

ORIGINS = ("versions", "git_revision", "platform", "device", "threads")


@dataclass(frozen=True)
class Details:
    """Details of an entry that records do not hold.

    Attributes:
        licence: licence of the weights.
        paper: address of the paper of the method.
        code: address of the code of the method.
        extra_data: training data besides the dataset's training split; None: as the options of the network say.
        names: default name of a network -> the name that it gets.
    """

    licence: str | None = None
    paper: str | None = None
    code: str | None = None
    extra_data: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


class Made(NamedTuple):
    """New entries, and a sentence for each reason why evaluations were left out."""

    entries: list[Entry]
    notes: list[str]


def parse_names(pairs: Iterable[str]) -> dict[str, str]:
    """Read pairs OLD=NEW; the names may hold "=" within brackets, such as "pspnet(encoder=tiny) sat"."""
    names = {}
    for pair in pairs:
        splits = ((pair[:at], pair[at + 1 :]) for at, letter in enumerate(pair) if letter == "=")
        old, new = next(((old.strip(), new.strip()) for old, new in splits if _closed(old)), ("", ""))
        if not old or not new:
            raise LeaderboardError(f"--name {pair}: expected OLD=NEW, for instance 'pspnet(encoder=tiny) sat=Tiny SAT'")
        names[old] = new
    return names


def _closed(text: str) -> bool:
    return text.count("(") == text.count(")") and text.count("[") == text.count("]")


def entries(store: Store, matrices: Sequence[str], details: Details) -> Made:
    """Return entries for the evaluations in a store.

    Args:
        store: the store.
        matrices: names of matrices of the store; all of them if empty.
        details: details that records do not hold.

    Raises:
        LeaderboardError: a matrix or network is unknown, a detail is not valid, or two entries would have the same
            path.
    """
    records = _records(store, matrices)
    left_out: dict[str, Counter[str]] = {}
    if unfinished := Counter(record.attack.short for record in records if record.status != "done"):
        left_out["not finished"] = unfinished
    done = [record for record in records if record.status == "done" and record.scores is not None]
    datasets: dict[str, list[Record]] = {}
    for record in flagged(done, store.measured):
        datasets.setdefault(component_key(record.dataset), []).append(record)
    made: dict[str, Entry] = {}
    known: set[str] = set()
    for own in datasets.values():
        labels = Labels(own)
        called = _called(own, labels)
        known.update(called.values())
        called = {key: details.names.get(name, name) for key, name in called.items()}
        for clean, attacked, threat in _grouped(own, labels, left_out):
            try:
                entry = _entry(clean, attacked, threat, store, labels, called, details)
            except ValidationError as error:
                first = error.errors()[0]
                raise LeaderboardError(f"{first['loc'][0]} {first['input']!r}: {first['msg'].lower()}") from error
            if entry.path in made:
                raise LeaderboardError(
                    f"{store.root}: two entries would be {entry.path}: their data or versions differ, or their names "
                    "are too much alike; choose a matrix with --matrix, or rename with --name"
                )
            made[entry.path] = entry
    if unknown := sorted(set(details.names) - known):
        raise LeaderboardError(f"--name {unknown[0]}: no such network; there are: {', '.join(sorted(known))}")
    return Made(list(made.values()), [_note(reason, attacks) for reason, attacks in left_out.items()])


def _grouped(
    records: Sequence[Record], labels: Labels, left_out: dict[str, Counter[str]]
) -> Iterator[tuple[list[Record], list[Record], BoardThreat]]:
    """Yield the clean records, the attacked records and the threat model of each entry; count others in `left_out`."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        groups.setdefault((*condition(record), labels.key(record.target)), []).append(record)
    for group in groups.values():
        clean, boards = [], dict[BoardThreat, list[Record]]()
        for record in group:
            threat = _threat(record)
            if record.setting == "clean":
                clean.append(record)
            elif isinstance(threat, str):
                left_out.setdefault(threat, Counter())[record.attack.short] += 1
            else:
                boards.setdefault(threat, []).append(record)
        for threat, attacked in boards.items():
            if clean:
                yield clean, attacked, threat
            else:
                reason = "of networks that were not evaluated on clean images"
                left_out.setdefault(reason, Counter()).update(record.attack.short for record in attacked)


def _records(store: Store, matrices: Sequence[str]) -> list[Record]:
    known = store.manifests()
    for name in matrices:
        if name not in known:
            raise LeaderboardError(f"{name}: no such matrix in store {store.root}, which holds: {', '.join(known)}")
    if not known:
        raise LeaderboardError(f"{store.root}: no matrix was run in this store")
    manifests = [found for name in matrices or known if (found := store.manifest(name)) is not None]
    return list({record.digest: record for manifest in manifests for record in manifest.records}.values())


def _called(records: Sequence[Record], labels: Labels) -> dict[NetworkKey, str]:
    """Return the default name of each network: architecture and defense, and its recipe if two would share a name."""
    networks = {labels.key(network): network for record in records for network in (record.target, record.source)}
    plain = {key: f"{network.model.short} {network.defense.short}" for key, network in networks.items()}
    times = Counter(plain.values())
    called = {}
    for key, network in networks.items():
        _, bracket, variant = labels.defense(network).partition(" [")
        called[key] = f"{plain[key]}{bracket}{variant}" if times[plain[key]] > 1 else plain[key]
    return called


def _threat(record: Record) -> BoardThreat | str:
    """Return the threat model of a record's board, or the reason why the record belongs on no board."""
    threat = record.threat
    if threat.access == "none":
        return BoardThreat(setting="corruptions")
    if not threat.eps or threat.norm is None:
        return "not bounded by an eps"
    if record.attack.options.get("target") is not None:
        return "targeted, after certain labels and not after mIoU"
    setting = "black-box" if record.setting == "black-box" else "white-box"
    return BoardThreat.model_validate({"setting": setting, "norm": threat.norm, "eps": threat.eps})


def _note(reason: str, attacks: Counter[str]) -> str:
    number = attacks.total()
    named = ", ".join(sorted(attacks))
    return f"left out: {number} evaluation{'s' * (number > 1)}, {reason}: {named}"


def _entry(
    clean: Sequence[Record],
    attacked: Sequence[Record],
    threat: BoardThreat,
    store: Store,
    labels: Labels,
    called: Mapping[NetworkKey, str],
    details: Details,
) -> Entry:
    first = clean[0]
    results = [summed(clean, None, threat.setting, store)]
    groups: dict[tuple[str, str, bool], list[Record]] = {}
    for record in attacked:
        source = called[labels.key(record.source)] if threat.setting == "black-box" else ""
        groups.setdefault((component_key(record.attack), source, record.oblivious), []).append(record)
    # Sorted, so that the order does not depend on the matrices that are entered together.
    for (_, source, _), runs in sorted(groups.items(), key=_order):
        results.append(summed(runs, source or None, threat.setting, store))
    return Entry(
        status="reported",
        added=datetime.date.today(),
        data=ScoredData(
            dataset=first.dataset,
            split=first.split,
            limit=first.limit,
            images=first.n_images,
            fingerprint=first.data_fingerprint,
            classes=first.classes,
        ),
        protocol=Procedure(component=first.protocol, absent=first.absent),
        threat=threat,
        model=_model([*clean, *attacked], called[labels.key(first.target)], details),
        results=tuple(results),
        links=Links(paper=details.paper, code=details.code),
        licence=details.licence,
        provenance=_origins([record.provenance for record in (*clean, *attacked)]),
    )


def _order(group: tuple[tuple[str, str, bool], Sequence[Record]]) -> tuple[object, ...]:
    (key, source, oblivious), records = group
    steps = records[0].attack.options.get("steps")
    return records[0].attack.name, steps if isinstance(steps, int) else 0, key, source, oblivious


def _model(records: Sequence[Record], name: str, details: Details) -> Model:
    first, network = records[0], records[0].target
    hashes = {r.target.seed: r.target.weights_sha256 for r in records if r.target.weights_sha256}
    return Model(
        name=name,
        architecture=network.model,
        defense=network.defense,
        recipe=network.recipe,
        parameters=_parameters(network, len(first.classes)),
        extra_data=details.extra_data or _extra_data(network),
        dynamic=first.dynamic,
        weights=tuple(Weights(seed=seed, sha256=sha256) for seed, sha256 in sorted(hashes.items())),
    )


def _extra_data(network: Network) -> str:
    if not network.recipe:
        return "not stated"
    weights = network.model.options.get("weights")
    return f"initial weights {Path(str(weights)).name}" if weights else "none"


def _parameters(network: Network, num_classes: int) -> int | None:
    """Return the number of parameters of a network; None for one that segbench did not train."""
    if not network.recipe:
        return None
    return _counted(network.model.model_dump_json(), network.defense.model_dump_json(), num_classes)


@cache
def _counted(model: str, defense: str, num_classes: int) -> int | None:
    architecture, deployed = (Component.model_validate_json(text) for text in (model, defense))
    try:
        network = zoo.deployed(architecture, deployed, num_classes)
    except SegbenchError:
        return None  # The catalog has changed since the network was trained.
    return sum(parameter.numel() for parameter in network.parameters())


def _origins(provenances: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return software versions and hardware; values that differ between evaluations become a list."""
    merged: dict[str, Any] = {}
    for name in ORIGINS:
        found = [provenance[name] for provenance in provenances if provenance.get(name) is not None]
        if not found:
            continue
        if name == "versions":
            packages = dict.fromkeys(package for versions in found for package in versions)
            merged[name] = {p: _one([versions[p] for versions in found if p in versions]) for p in packages}
        elif name == "platform":
            # Only the name of the system: the rest identifies the kernel of a private machine.
            merged[name] = _one([text.partition("-")[0] for text in found])
        else:
            merged[name] = _one(found)
    return merged


def _one(values: Sequence[Any]) -> Any:
    distinct = sorted(set(values))
    return distinct[0] if len(distinct) == 1 else distinct
