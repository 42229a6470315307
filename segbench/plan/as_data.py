"""Jobs as plain data: what another machine needs to do a training or a sweep, and nothing that could run code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from segbench.components import specs
from segbench.config.network import ExternalNetwork
from segbench.errors import SegbenchError
from segbench.plan.data import Data
from segbench.plan.evaluations import EvalCell
from segbench.plan.identity import plain
from segbench.plan.networks import ExternalCell, NetworkCell, TrainCell
from segbench.plan.plan import Sweep
from segbench.reports.records import Component, Origin

Cell = TypeVar("Cell", bound=TrainCell | ExternalCell | EvalCell)


def job_to_plain(job: TrainCell | Sweep) -> dict[str, Any]:
    """Return a job as JSON can hold it."""
    if not isinstance(job, Sweep):
        return {"training": _network_to_plain(job)}
    networks = {cell.digest: cell for cell in (job.source, *job.targets)}
    return {
        "networks": {digest: _network_to_plain(cell) for digest, cell in networks.items()},
        "source": job.source.digest,
        "cells": [_evaluation_to_plain(cell) for cell in job.cells],
        "watched": None if job.watched is None else _evaluation_to_plain(job.watched),
        "shard": job.shard,
    }


def job_from_plain(content: Mapping[str, Any]) -> TrainCell | Sweep:
    """Return the job that `job_to_plain` wrote.

    Raises:
        SegbenchError: a component is not in this machine's catalog, or means something else here.
        KeyError, TypeError, ValueError: the content is of another form.
    """
    if "training" in content:
        training = _network_from_plain(content["training"])
        if not isinstance(training, TrainCell):
            raise TypeError("a network that was not trained here is no training")
        return training
    networks = {digest: _network_from_plain(own) for digest, own in content["networks"].items()}
    cells = tuple(_evaluation_from_plain(own, networks) for own in content["cells"])
    watched = None if content["watched"] is None else _evaluation_from_plain(content["watched"], networks)
    shard = None if content["shard"] is None else (int(content["shard"][0]), int(content["shard"][1]))
    return Sweep(networks[content["source"]], cells, watched, shard)


def _network_to_plain(cell: NetworkCell) -> dict[str, Any]:
    said = {"warnings": list(cell.data.warnings), "classes": list(cell.data.classes)}
    if isinstance(cell, TrainCell):
        return {"digest": cell.digest, "trained": plain(cell.to_plain()), **said}
    return {
        "digest": cell.digest,
        "given": cell.external.model_dump(mode="json"),
        "data": _component(cell.data.dataset),
        "fingerprint": cell.data.fingerprint,
        **said,
        "identity": dict(cell.identity),
        "convention": plain(cell.convention),
        "traits": list(cell.traits),
        "notes": list(cell.notes),
        "answers": list(cell.answers),
        "access": cell.access,
        "origin": None if cell.origin is None else cell.origin.model_dump(mode="json"),
    }


def _network_from_plain(content: Mapping[str, Any]) -> NetworkCell:
    cell: NetworkCell
    warnings, classes = tuple(content["warnings"]), tuple(content["classes"])
    if "trained" in content:
        trained = TrainCell.from_plain(content["trained"])
        cell = replace(trained, data=replace(trained.data, warnings=warnings, classes=classes))
    else:
        cell = ExternalCell(
            Data(_bound("dataset", content["data"]), content["fingerprint"], warnings, classes),
            ExternalNetwork.model_validate(content["given"]),
            dict(content["identity"]),
            dict(content["convention"]),
            tuple(content["traits"]),
            tuple(content["notes"]),
            tuple(content["answers"]),
            content["access"],
            None if content["origin"] is None else Origin.model_validate(content["origin"]),
        )
    return _same(cell, content["digest"])


def _evaluation_to_plain(cell: EvalCell) -> dict[str, Any]:
    return {
        "digest": cell.digest,
        "target": cell.target.digest,
        "source": cell.source.digest,
        "attack": _component(cell.attack),
        "protocol": _component(cell.protocol),
        "files": dict(cell.files),
        **{name: getattr(cell, name) for name in _PLAIN},
    }


def _evaluation_from_plain(content: Mapping[str, Any], networks: Mapping[str, NetworkCell]) -> EvalCell:
    cell = EvalCell(
        target=networks[content["target"]],
        source=networks[content["source"]],
        attack=_bound("attack", content["attack"]),
        protocol=_bound("protocol", content["protocol"]),
        files=dict(content["files"]),
        **{name: content[name] for name in _PLAIN},
    )
    return _same(cell, content["digest"])


_PLAIN = ("split", "limit", "seed", "adaptive", "certified", "dynamic", "precision")


def _same(cell: Cell, digest: str) -> Cell:
    """See that a cell means on this machine what it meant where it was written."""
    if cell.digest != digest:
        raise SegbenchError(
            f"{cell.label}: means something else on this machine; install the same segbench and the same plugins on "
            "every machine"
        )
    return cell


def _component(bound: specs.Bound) -> dict[str, Any]:
    return bound.identity.model_dump(mode="json")


def _bound(kind: str, content: Mapping[str, Any]) -> specs.Bound:
    return specs.stored(kind, Component.model_validate(content))
