"""One leaderboard entry, composed from the records of one network under one threat model."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from segbench.errors import SegbenchError
from segbench.leaderboard.summing import summed
from segbench.reports.labels import Labels, NetworkKey, component_key
from segbench.reports.leaderboard.entries import BoardThreat, Entry, Links, Model, Procedure, ScoredData, Weights
from segbench.reports.records import Component, Network, Record
from segbench.reports.tables.inference import CountsOf
from segbench.zoo import networks as zoo

ORIGINS = ("versions", "git_revision", "platform", "device", "threads")
"""The parts of the provenance of a record that an entry shows."""


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


def compose(
    clean: Sequence[Record],
    attacked: Sequence[Record],
    threat: BoardThreat,
    counts: CountsOf,
    labels: Labels,
    called: Mapping[NetworkKey, str],
    details: Details,
) -> Entry:
    """Return the entry of a network on one board.

    Args:
        clean: its records on clean images.
        attacked: its records under the attacks of the board.
        threat: the threat model of the board.
        counts: digest of a record -> its counts.
        labels: the labels of the networks in the records.
        called: the name of each network.
        details: details that records do not hold.
    """
    first = clean[0]
    results = [summed(clean, None, threat.setting, counts)]
    groups: dict[tuple[str, str, bool], list[Record]] = {}
    for record in attacked:
        source = called[labels.key(record.source)] if threat.setting == "black-box" else ""
        groups.setdefault((component_key(record.attack), source, record.oblivious), []).append(record)
    # Sorted, so that the order does not depend on the matrices that are entered together.
    for (_, source, _), runs in sorted(groups.items(), key=_order):
        results.append(summed(runs, source or None, threat.setting, counts))
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
    networks = {r.target.seed: r.target for r in records}
    return Model(
        name=name,
        architecture=network.model,
        defense=network.defense,
        recipe=network.recipe,
        parameters=_parameters(network, len(first.classes)),
        extra_data=details.extra_data or _extra_data(network),
        dynamic=first.dynamic,
        weights=tuple(
            Weights(seed=seed, sha256=own.weights_sha256, origin=own.origin)
            for seed, own in sorted(networks.items())
            if own.weights_sha256
        ),
    )


def _extra_data(network: Network) -> str:
    if not network.recipe:
        return "not stated"
    weights = network.model.options.get("weights")
    return f"initial weights {Path(str(weights)).name}" if weights else "none"


def _parameters(network: Network, num_classes: int) -> int | None:
    """Return the number of parameters of a network; None for one of which it was not noted."""
    if network.origin is not None:
        return network.origin.parameters or None
    if not network.recipe:
        return None
    return _counted(network.model.model_dump_json(), network.defense.model_dump_json(), num_classes)


@cache
def _counted(model: str, defense: str, num_classes: int) -> int | None:
    architecture, deployed = (Component.model_validate_json(text) for text in (model, defense))
    try:
        network = zoo.sketch(architecture, deployed, num_classes) or zoo.deployed(architecture, deployed, num_classes)
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
