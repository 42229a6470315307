"""A matrix as data for the page: a table for every dataset and setting, a cell for every evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from segbench.reports.labels import Labels
from segbench.reports.records import Manifest, Network, Record
from segbench.reports.visible import visible
from segbench.view.shown import Shown

STATES = ("done", "running", "failed", "waiting")


def overview(shown: Shown) -> dict[str, Any]:
    """Return the matrices of a store, by name and title."""
    matrices = []
    for name in shown.store.manifests():
        manifest = shown.manifest(name)
        if manifest is not None:
            matrices.append({"name": name, "title": visible(manifest.title)})
    return {
        "store": shown.key,
        "path": visible(str(shown.store.root)),
        "matrices": matrices,
        "running": sorted({str(job["matrix"]) for job in shown.running()}),
    }


def matrix(shown: Shown, manifest: Manifest) -> dict[str, Any]:
    """Return the state of a matrix: counts of states, jobs under way, tables of evaluations, and trainings."""
    trained = _trained(manifest.records)
    jobs = [job for job in shown.running() if job["matrix"] == manifest.name]
    under_way = {digest: job for job in jobs for digest in job["evaluations"]}
    live = {digest: miou for job in jobs for digest, miou in shown.live(job).items()}
    labels = Labels(manifest.records, manifest.labels)
    cells = {r.digest: _cell(shown.record(r.digest), r, under_way.get(r.digest), live) for r in manifest.records}
    states = Counter(cell["state"] for cell in cells.values())
    if not jobs:  # flags need all records together, and would be made again for each that comes
        flags = shown.flags(manifest.name, tuple((digest, cell.get("miou")) for digest, cell in cells.items()))
        cells = {digest: {**cell, "flags": flags.get(digest, ())} for digest, cell in cells.items()}
    tables = [_table(heading, records, cells, labels) for heading, records in _grouped(manifest.records, labels)]
    active = {str(job["job"]) for job in jobs if not job["evaluations"]}
    return {
        "store": shown.key,
        "path": visible(str(shown.store.root)),
        "name": manifest.name,
        "title": visible(manifest.title),
        "states": {state: states[state] for state in STATES},
        "jobs": [{key: _clean(job[key]) for key in ("label", "done", "total", "note")} for job in jobs],
        "tables": tables,
        "trainings": [
            {"digest": digest, "label": _network(labels, network), "state": shown.state_of_training(digest, active)}
            for digest, network in trained.items()
        ],
    }


def _grouped(records: Iterable[Record], labels: Labels) -> list[tuple[str, list[Record]]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        setting = "black-box" if record.setting == "black-box" else "white-box"
        groups.setdefault(f"{labels.component('dataset', record.dataset)}, {setting}", []).append(record)
    return list(groups.items())


def _table(heading: str, records: list[Record], cells: Mapping[str, dict[str, Any]], labels: Labels) -> dict[str, Any]:
    """Return a row for every network, or pair of networks, and a column for every attack."""
    called = {record.attack.short: visible(labels.component("attack", record.attack)) for record in records}
    columns = sorted(called, key=lambda short: short != "clean")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        black = record.setting == "black-box"
        key = record.target.digest, record.source.digest if black else ""
        label = _network(labels, record.target)
        if black:
            label += f", attacked on {_network(labels, record.source)}"
        row = rows.setdefault(key, {"label": label, "cells": [None] * len(columns)})
        short = record.attack.short
        own = {**cells[record.digest], "attack": called[short], "clean": record.setting == "clean"}
        row["cells"][columns.index(short)] = own
    return {"heading": visible(heading), "attacks": [called[short] for short in columns], "rows": list(rows.values())}


def _cell(found: Record | str | None, asked: Record, job: Mapping[str, Any] | None, live: Mapping[str, float]) -> Any:
    """Return an evaluation: its state, its mIoU in per cent, how far it is, and what went wrong."""
    cell: dict[str, Any] = {"digest": asked.digest, "state": "waiting", "images": asked.n_images}
    if isinstance(found, Record) and found.scores is not None:
        scores = found.scores
        cell |= {"state": "done", "miou": scores.miou, "low": scores.miou_low, "high": scores.miou_high}
        cell |= {"macc": scores.macc, "aacc": scores.aacc, "images": found.n_images}
        cell["classes"] = [[visible(name), iou] for name, iou in zip(found.classes, scores.class_iou, strict=True)]
    elif job is not None:
        cell |= {"state": "running", "done": job["done"], "total": job["total"], "note": _clean(job["note"])}
        cell["miou"] = live.get(asked.digest)
    elif isinstance(found, str):
        cell |= {"state": "failed", "error": found}
    elif found is not None:
        cell |= {"state": "failed", "error": visible(found.error or "its evaluation failed")}
    return cell


def _network(labels: Labels, network: Network) -> str:
    return visible(labels.run(network))


def _trained(records: Iterable[Record]) -> dict[str, Network]:
    """Return the networks that segbench trains, by digest."""
    networks = (network for record in records for network in (record.target, record.source))
    return {network.digest: network for network in networks if network.recipe}


def _clean(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value
