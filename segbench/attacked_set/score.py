"""A folder of predictions -> records like any other: a network that nobody handed over, in the same tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from segbench.attacked_set.manifest import CLEAN, AttackedSet, read_set
from segbench.attacked_set.predictions import Predictions
from segbench.components import specs
from segbench.components.specs import Bound
from segbench.components.values import line_of_text
from segbench.datasets.base import Dataset
from segbench.errors import SegbenchError, failing
from segbench.evaluation.tally import confusion
from segbench.execution import prepare
from segbench.networks.label_maps import as_scores
from segbench.plan.data import needs_root
from segbench.plan.identity import digest
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.protocols.void import scored_split
from segbench.provenance import provenance
from segbench.reports.names import as_name
from segbench.reports.records import Component, Manifest, Network, Record
from segbench.reports.statistics import Counts, scores
from segbench.result import Result, stored_result
from segbench.store import Store


def score(
    folder: Path,
    predictions: Path,
    *,
    name: str,
    defense: str = "none",
    seed: int = 0,
    data: Mapping[str, Path] | None = None,
    store: Path = Path("runs"),
) -> Result:
    """Score predictions of an attacked set, and put them into the store beside those of others of the same set.

    Args:
        folder: the attacked set; of its files only the manifest is read.
        predictions: a folder for each condition, with a label PNG for each image.
        name: what tables call the network.
        defense: how it was trained, as tables say it.
        seed: tells runs of one training apart.
        data: folders of datasets; the dataset's own masks are what predictions are scored against.
        store: folder of records.

    Raises:
        SegbenchError: the set, the dataset or a file of predictions is not what it has to be.
    """
    for what, text in (("name", name), ("defense", defense)):
        try:
            line_of_text(text)
        except ValueError as error:
            raise SegbenchError(f"attacked-set score: {what}: {error}") from error
    made = read_set(folder)
    found = Predictions(predictions, made)
    bound = specs.stored("dataset", made.dataset)
    dataset = _dataset(made, bound, data or {})
    protocol: EvaluationProtocol = specs.stored("protocol", made.protocol).make()
    tallies = {condition: _tally(condition, made, found, dataset, protocol) for condition in made.conditions}
    identity = {"kind": "files", "set": made.digest, "name": name, "defense": defense, "seed": seed}
    target = Network(
        model=Component(name=name, short=name),
        defense=Component(name=defense, short=defense),
        seed=seed,
        digest=digest({**identity, "files": found.hashes}),
        weights_sha256=None,
        access="files",
    )
    results = Store(store)
    results.open_for_writing()
    records = []
    for condition, (counts, extras) in tallies.items():
        record = _record(condition, made, target, protocol, counts, extras)
        results.write_record(record, counts, [image.name for image in made.images])
        records.append(record)
    return _shown(results, made, records)


def _dataset(made: AttackedSet, bound: Bound, data: Mapping[str, Path]) -> Dataset:
    """Open the dataset whose masks predictions are scored against, and see that it is the set's."""
    opened = prepare.open_bound(bound, data)
    if opened.fingerprint() != made.fingerprint:
        where = f" in {data[bound.component.name]}" if needs_root(bound.component) else ""
        raise SegbenchError(
            f"{bound.short}{where}: its files are not those that the set was made of (fingerprint "
            f"{opened.fingerprint()[:8]}, the set's {made.fingerprint[:8]}); score it with the same data"
        )
    if tuple(opened.classes) != made.classes:
        raise SegbenchError(f"{bound.short}: has other classes than the set ({', '.join(made.classes)})")
    if len(opened.split(made.split)) < len(made.images):
        raise SegbenchError(f"{bound.short}: {made.split} has fewer images than the set")
    return opened


def _tally(
    condition: str, made: AttackedSet, found: Predictions, dataset: Dataset, protocol: EvaluationProtocol
) -> tuple[Counts, dict[str, float]]:
    """Return the counts of a condition's images, (N, 3, C), and what its confidences say."""
    split = scored_split(dataset, made.split, protocol)
    classes, void = len(made.classes), dataset.ignore_index
    counts, confident = [], _Confidences()
    for index, image in enumerate(made.images):
        sample = split[index]
        with failing(f"{image.name}: cannot be cut as the set's protocol {made.protocol.short} says"):
            crops = protocol.crops(sample.image, sample.mask)
        labels = torch.from_numpy(found.labels(condition, image))
        if sample.name != image.name or labels.shape != crops.masks.shape:
            raise SegbenchError(f"{image.name}: not the image of the dataset at place {index}, or of another size")
        pieces = as_scores(labels, len(labels), classes, None, condition)
        preds = protocol.merge(pieces, crops)
        counts.append(confusion(preds, crops.truth, classes, void))
        if found.confident[condition]:
            confident.add(found.confidences(condition, image), labels, crops, void)
    return np.stack(counts), confident.means()


class _Confidences:
    """Sums of the confidences of right and of wrong pixels, over all pieces."""

    def __init__(self) -> None:
        self.sums = {"right": np.zeros(2), "wrong": np.zeros(2)}

    def add(
        self,
        confidences: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
        labels: torch.Tensor,
        crops: Crops,
        void: int,
    ) -> None:
        """Add the pixels of one image's pieces."""
        valid = (crops.masks != void).numpy()
        right = (labels.long() == crops.masks).numpy()
        for name, chosen in (("right", right & valid), ("wrong", ~right & valid)):
            self.sums[name] += (confidences[chosen].sum(), chosen.sum())

    def means(self) -> dict[str, float]:
        """Return the mean confidences, in per cent; none where there were no confidences."""
        means = {f"confidence_{name}": 100 * total / count for name, (total, count) in self.sums.items() if count}
        return {name: float(mean) for name, mean in means.items()}


def _record(
    condition: str,
    made: AttackedSet,
    target: Network,
    protocol: EvaluationProtocol,
    counts: Counts,
    extras: Mapping[str, float],
) -> Record:
    """Return the record of one condition."""
    own = made.conditions[condition]
    return Record(
        digest=digest({"kind": "files", "set": made.digest, "condition": condition, "target": target.digest}),
        status="done",
        setting="clean" if condition == CLEAN else "black-box",
        dataset=made.dataset,
        data_fingerprint=made.fingerprint,
        classes=made.classes,
        split=made.split,
        limit=made.limit,
        n_images=len(counts),
        protocol=made.protocol,
        absent=protocol.absent,
        target=target,
        source=own.source or target,
        attack=own.attack,
        threat=own.threat,
        seed=made.seed,
        scores=scores(counts, protocol.absent),
        budget_used=own.budget_used,
        extras=extras,
        notes=(f"{target.model.name}: its predictions were given as files; nobody here has run it",),
        provenance=provenance(torch.device("cpu")),
    )


def _shown(results: Store, made: AttackedSet, records: list[Record]) -> Result:
    """Put records into the report of the set, in place of earlier ones of the same network, and return it."""
    name = as_name(f"attacked-{made.dataset.name}-{made.digest[:8]}")
    before = results.manifest(name, filled=False)
    own = records[0].target
    kept = [
        record
        for record in (before.records if before else ())
        if (record.target.model, record.target.defense, record.target.seed) != (own.model, own.defense, own.seed)
    ]
    title = f"Predictions of an attacked copy of {made.dataset.short} ({made.split})"
    results.write_manifest(Manifest(name=name, title=title, records=(*kept, *records)))
    result = stored_result(results, name)
    if result is None:
        raise SegbenchError(f"{results.root}: what was just scored is gone; score it again")
    return result
