"""Sets of attacks as one attacker who chooses for each image: computed from stored counts, without a new run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from reports.records import Component, Manifest, Record, Threat
from segbench import metrics
from segbench.errors import StoreError
from segbench.store import Store


def with_worst_cases(manifest: Manifest, store: Store) -> Manifest:
    """Add a record for every set of attacks that a matrix wants the worst case of, after the records of its network.

    A member stands for every attack of that name, or for the one of that short string. Its mIoU is that of the greedy
    choice of an attack per image; `extras` hold the worst accuracies and a lower bound of the mIoU.

    Args:
        manifest: a matrix's records.
        store: where their counts are.
    """
    groups: dict[tuple[str, str, bool], list[Record]] = {}
    for record in manifest.records:
        groups.setdefault((record.target.digest, record.source.digest, record.oblivious), []).append(record)
    added = [
        aggregated
        for group in groups.values()
        for column, members in manifest.worst_of.items()
        if (aggregated := _worst(column, members, group, store)) is not None
    ]
    return manifest.model_copy(update={"records": (*manifest.records, *added)})


def _worst(column: str, members: Iterable[str], group: list[Record], store: Store) -> Record | None:
    """Aggregate one set of attacks on one network; None where the network was not attacked by all of them."""
    wanted = list(members)
    chosen = [r for r in group if r.attack.short in wanted or r.attack.name in wanted]
    if not all(any(member in (r.attack.short, r.attack.name) for r in chosen) for member in wanted):
        return None
    done = [record for record in chosen if record.status == "done"]
    attack = Component(name=column, options={"of": wanted}, short=column)
    digest = hashlib.sha256("\n".join(["worst-of", column, *(r.digest for r in chosen)]).encode()).hexdigest()[:16]
    changed: dict[str, object] = {
        "digest": digest,
        "attack": attack,
        "threat": _threat(chosen),
        "adaptive": next((r.adaptive for r in chosen if r.adaptive is not None), None),
        "provenance": {},
        "flags": (),
    }
    if len(done) < len(chosen):
        failed = next(record for record in chosen if record.status != "done")
        reason = f"{failed.attack.short} is {failed.status}"
        return chosen[0].model_copy(update={**changed, "status": "missing", "scores": None, "error": reason})
    parts = [part for record in done for part in store.parts(record.digest)]
    if not parts:
        raise StoreError(f"{store.root}: the counts of {done[0].attack.short} are gone; delete its folder to redo it")
    worst = metrics.worst_case(parts, done[0].absent)
    counts = np.stack(parts)[worst.choice, np.arange(len(worst.choice))]
    extras = {
        "worst_image_accuracy": worst.image_accuracy,
        "worst_aacc": worst.aacc,
        "miou_lower_bound": worst.miou_bound,
    }
    passes: Mapping[str, int] = {
        kind: sum(record.passes.get(kind, 0) for record in done) for kind in ("forward", "backward")
    }
    used = [record.budget_used for record in done if record.budget_used is not None]
    return done[0].model_copy(
        update={
            **changed,
            "scores": metrics.scores(counts, done[0].absent),
            "extras": extras,
            "passes": passes,
            "budget_used": max(used, default=None),
        }
    )


def _threat(records: list[Record]) -> Threat:
    """The common threat model; the fields in which the attacks differ are None, access is the strongest."""
    norms, radii = {r.threat.norm for r in records}, {r.threat.eps for r in records}
    access = next(a for a in ("gradients", "logits", "none") if a in {r.threat.access for r in records})
    same = len(norms) == len(radii) == 1
    return Threat(norm=norms.pop() if same else None, eps=radii.pop() if same else None, access=access)
