"""One sweep -> Records: adversarial images are made once and scored on every target that an evaluation asks for.

A dynamic target sees the images of its sweep one by one, in order, from its state of deployment on: each is attacked
while the target stands as the images before have left it, is taken in, and is scored. Of an ensemble's parts it sees
the one that is worst for the attacked network.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segbench.attacks.tools.budget import check_budget, distance
from segbench.attacks.tools.passes import count_passes
from segbench.attacks.tools.targets import goal
from segbench.defenses.base import Certified, Dynamic
from segbench.errors import Stopped
from segbench.evaluation.batching import packs
from segbench.evaluation.probes import measure
from segbench.evaluation.tally import (
    Tally,
    certificates,
    certified_confusion,
    confusion,
    restore_unfinished,
    save_unfinished,
)
from segbench.evaluation.training_data import training_context
from segbench.files import acquire
from segbench.networks.load import load_network, weights_sha256
from segbench.plan.cells import EvalCell, attack_of, open_dataset, revive
from segbench.plan.plan import Sweep
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.provenance import provenance
from segbench.reporter import Reporter
from segbench.reports.evidence import KeptImage
from segbench.reports.statistics import mean_iou, scores
from segbench.reports.worst_case import worst_case
from segbench.seeding import generator
from segbench.store import Store

MEASURED_IMAGES = 8
"""How many images or crops the sanity measurements of a network are taken on."""


def run_sweep(
    sweep: Sweep,
    store: Store,
    *,
    device: torch.device,
    root: Path | None,
    batch: int,
    keep: int,
    checkpoint_every: float,
    reporter: Reporter,
) -> None:
    """Evaluate the cells of a sweep that have no record yet, and store their records.

    Args:
        sweep: evaluations that share adversarial images.
        store: where networks come from and records go.
        device: where it runs.
        root: folder of the dataset, where it has files.
        batch: images or crops attacked at once.
        keep: images of each evaluation that are kept as they were attacked and predicted, evenly over the split.
        checkpoint_every: seconds between stores of unfinished counts.
        reporter: hears of progress.

    Raises:
        CellError: adversarial images exceed their budget.
        Stopped: the user asked to stop; what is finished was kept.
    """
    lock = store.lock(store.cache_dir / "sweeps" / sweep.key)
    acquire(lock, sweep.label)
    try:
        cells = [cell for cell in sweep.cells if not store.evaluated(cell.digest)]
        if cells:
            _Run(Sweep(sweep.source, tuple(cells)), store, device, root, batch, keep).go(checkpoint_every, reporter)
    finally:
        lock.release()


class _Run:
    """The state of one sweep while it runs."""

    def __init__(
        self, sweep: Sweep, store: Store, device: torch.device, root: Path | None, batch: int, keep: int
    ) -> None:
        self.sweep, self.store, self.device = sweep, store, device
        self.dynamic = any(cell.dynamic for cell in sweep.cells)
        self.batch = 1 if self.dynamic else batch
        self.dataset = open_dataset(sweep.source.data.component, root)
        self.split = self.dataset.split(sweep.cells[0].split)
        limit = sweep.cells[0].limit
        self.length = len(self.split) if limit is None else min(limit, len(self.split))
        self.kept = {(2 * i + 1) * self.length // (2 * keep) for i in range(keep)}
        self.protocol: EvaluationProtocol = revive("protocol", sweep.cells[0].protocol).make()
        self.attack = attack_of(sweep.attack)
        self.networks = {
            cell.digest: load_network(cell, store, device, len(self.dataset.classes), self.dataset.ignore_index)
            for cell in {c.digest: c for c in (sweep.source, *sweep.targets)}.values()
        }
        self._reset()
        source: Any = self.networks[sweep.source.digest]
        self.attacked: nn.Module = source.plain if sweep.oblivious else source
        self.tallies = {cell.digest: Tally() for cell in sweep.cells}
        self.names: list[str] = []
        self.context, fitting = training_context(
            self.attack,
            self.protocol.network(self.attacked),
            self.dataset,
            sweep.source.network().recipe.get("split", "train"),
            self.protocol,
            self.batch,
            device,
        )
        for tally in self.tallies.values():
            tally.passes.forward += fitting.forward
            tally.passes.backward += fitting.backward
        self.partial = store.cache_dir / "sweeps" / sweep.key / "partial.npz"

    def go(self, checkpoint_every: float, reporter: Reporter) -> None:
        """Score all images, then write the records."""
        started = saved = time.monotonic()
        before = self._restore()
        resumed_at = len(self.names)
        for first in range(resumed_at, self.length, self.batch):
            self._chunk(range(first, min(first + self.batch, self.length)))
            now = time.monotonic()
            pace = (len(self.names) - resumed_at) / (now - started)
            try:
                reporter.update(len(self.names), self.length, f"mIoU {self._miou():.1f}, {pace:.1f} images/s")
            except Stopped:
                self._save(before + now - started)
                raise
            if now - saved > checkpoint_every:
                self._save(before + now - started)
                saved = time.monotonic()
        seconds = before + time.monotonic() - started
        self._measure()
        for cell in self.sweep.cells:
            self._write(cell, seconds)
        self.partial.unlink(missing_ok=True)

    def _reset(self) -> None:
        """Return the networks to their state of deployment."""
        for network in self.networks.values():
            if isinstance(network, Dynamic):
                network.reset()

    def _chunk(self, indices: Sequence[int]) -> None:
        """Attack and score some images; those whose crops have one size share batches."""
        samples = [self.split[index] for index in indices]
        crops = [self.protocol.crops(sample.image, sample.mask) for sample in samples]
        found: dict[tuple[int, str], dict[str, NDArray[np.int64]]] = {}
        moved: dict[tuple[int, str], float] = {}
        shown: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        reached: dict[tuple[int, str], NDArray[np.int64]] = {}
        for members in packs(crops, self.batch):
            images = torch.cat([crops[m].images for m in members]).to(self.device, memory_format=torch.channels_last)
            masks = torch.cat([crops[m].masks for m in members]).to(self.device)
            keys = [(indices[m], piece) for m in members for piece in range(len(crops[m].images))]
            made = self._attacked(images, masks, keys)
            owners = [m for m in members for _ in crops[m].images]
            for cell in self.sweep.cells:
                target = self.networks[cell.target.digest]
                for part, adversarial in self._views(cell, made).items():
                    if isinstance(target, Dynamic):
                        target.adapt(adversarial)
                    for owner, length in zip(owners, self._distances(adversarial, images), strict=True):
                        moved[owner, cell.digest] = max(moved.get((owner, cell.digest), 0.0), length)
                    pieces = torch.split(adversarial, [len(crops[m].images) for m in members])
                    predicted = self._predicted(cell, adversarial, [crops[m] for m in members])
                    for member, piece, preds in zip(members, pieces, predicted, strict=True):
                        truth = crops[member].truth.to(preds.device)
                        counts = confusion(preds, truth, len(self.dataset.classes), self.dataset.ignore_index)
                        if self.attack.options.get("target") is not None:
                            reached[member, cell.digest] = self._on_target(preds, truth)
                        before = found.setdefault((member, cell.digest), {})
                        if indices[member] in self.kept and all(
                            counts[0].sum() < other[0].sum() for other in before.values()
                        ):
                            shown[member, cell.digest] = piece, preds
                        before[part] = counts
        for cell in self.sweep.cells:
            if cell.certified:
                for index, own in zip(indices, crops, strict=True):
                    self._certify(cell, index, own)
        for position in range(len(samples)):
            for digest, tally in self.tallies.items():
                tally.distances.append(moved[position, digest])
                if (position, digest) in reached:
                    tally.on_target.append(reached[position, digest])
                for part, counts in found[position, digest].items():
                    tally.counts.setdefault(part, []).append(counts)
                if indices[position] in self.kept:
                    image = self._image(
                        indices[position], samples[position].name, crops[position], *shown[position, digest]
                    )
                    self.store.keep_image(digest, image)
        self.names += [sample.name for sample in samples]

    def _on_target(self, preds: Tensor, truth: Tensor) -> NDArray[np.int64]:
        """Count the pixels that have the label which a targeted attack asks for, and all of which it asks one, (2,)."""
        void = self.dataset.ignore_index
        labels = goal(truth[None], self.attack.options["target"], ignore_index=void)[0]
        asked = labels != void
        return np.array([int((preds == labels)[asked].sum()), int(asked.sum())])

    def _certify(self, cell: EvalCell, index: int, crops: Crops) -> None:
        """Count what the target certifies of an image, piece by piece, as the pieces are attacked."""
        target, tally = self.networks[cell.target.digest], self.tallies[cell.digest]
        # Under sliding windows it is not the target alone that predicts, and its certificates say nothing.
        if not isinstance(target, Certified) or self.protocol.network(target) is not target:
            return
        generators = [generator(cell.seed, "certify", index, piece) for piece in range(len(crops.images))]
        labels, tally.radius = target.certify(crops.images.to(self.device), generators)
        classes, ignore_index = len(self.dataset.classes), self.dataset.ignore_index
        tally.certified.append(certified_confusion(labels.cpu(), crops.masks, classes, ignore_index))

    def _views(self, cell: EvalCell, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the adversarial images that a cell is scored on: one batch, or one for each part of an ensemble."""
        if self.attack.attack.nested:
            return {"": made[str(cell.attack.options["steps"])]}
        return dict(made)

    def _predicted(self, cell: EvalCell, adversarial: Tensor, crops: Sequence[Crops]) -> Iterator[Tensor]:
        """Yield the label map that a cell's target gives for each image of a pack."""
        attacked = self.attack.threat.access != "none"
        scores = self.protocol.scores(self.networks[cell.target.digest], adversarial, attacked=attacked)
        pieces = torch.split(scores, [len(own.images) for own in crops])
        for own, part in zip(crops, pieces, strict=True):
            yield self.protocol.merge(part, own)

    def _image(self, index: int, name: str, crops: Crops, adversarial: Tensor, preds: Tensor) -> KeptImage:
        """Return an image as it was attacked and predicted; of an ensemble's parts, by the one that did most harm."""
        palette = np.array(self.dataset.palette, np.uint8)
        truth, labels = (own.cpu().numpy().astype(np.uint8) for own in (crops.truth, preds))
        return KeptImage(index, name, palette, _fine(crops.images), _fine(adversarial), truth, labels)

    def _attacked(self, images: Tensor, masks: Tensor, keys: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """Return the adversarial images, by steps or part; their budget is checked and their cost noted."""
        attack = self.attack
        network = self.protocol.network(self.attacked)
        generators = [generator(self.sweep.cells[0].seed, attack.attack.name, *key) for key in keys]
        given = {**self.context, "ignore_index": self.dataset.ignore_index, "generator": generators}
        made: dict[str, Tensor]
        with count_passes(network) as passes:
            if attack.attack.nested:
                wanted = {int(cell.attack.options["steps"]) for cell in self.sweep.cells}
                iterates = attack.iterates(wanted, network, images, masks, **given)
                made = {str(steps): adversarial for steps, adversarial in iterates.items()}
            elif attack.attack.ensemble and not self.dynamic:
                made = attack.parts(network, images, masks, **given)
            else:
                made = {"": attack(network, images, masks, **given)}
        for adversarial in made.values():
            check_budget(adversarial, images, attack.threat)
        for cell in self.sweep.cells:
            # A nested attack does every step for every image, so that each step costs the same.
            steps, most = (
                int(c.options["steps"]) if attack.attack.nested else 1 for c in (cell.attack, self.sweep.attack)
            )
            tally = self.tallies[cell.digest]
            tally.passes.forward += passes.forward * steps // most
            tally.passes.backward += passes.backward * steps // most
        return made

    def _distances(self, adversarial: Tensor, images: Tensor) -> list[float]:
        """Return how far each piece was moved, in the attack's own norm; zeros where it has none."""
        norm = self.attack.threat.norm or self.attack.attack.minimises
        return distance(adversarial, images, norm).tolist() if norm else [0.0] * len(images)

    def _miou(self) -> float:
        parts = self.tallies[self.sweep.cells[-1].digest].counts.values()
        return min(100 * float(mean_iou(np.sum(counts, axis=0), self.protocol.absent)) for counts in parts)

    def _write(self, cell: EvalCell, seconds: float) -> None:
        tally = self.tallies[cell.digest]
        parts = {name: np.stack(counts) for name, counts in tally.counts.items()}
        extras: dict[str, float] = {}
        if "" in parts:
            counts = parts.pop("")
        else:
            worst = worst_case(list(parts.values()), self.protocol.absent)
            counts = np.stack(list(parts.values()))[worst.choice, np.arange(len(worst.choice))]
            extras = {"worst_image_accuracy": worst.image_accuracy, "worst_aacc": worst.aacc}
            extras["miou_lower_bound"] = worst.miou_bound
        expected = cell.expected()
        if self.attack.attack.minimises is not None:
            extras["median_distance"] = float(np.median(tally.distances))
        if tally.on_target:
            reached, asked = np.sum(tally.on_target, axis=0)
            extras["on_target"] = 100 * float(reached / max(asked, 1))
        if tally.certified:
            extras.update(certificates(np.sum(tally.certified, axis=0), tally.radius, self.protocol.absent))
        sums = {c.digest: weights_sha256(c, self.store) for c in (cell.target, cell.source)}
        record = expected.model_copy(
            update={
                "status": "done",
                "classes": tuple(self.dataset.classes),
                "n_images": len(counts),
                "scores": scores(counts, self.protocol.absent),
                "target": cell.target.network(sums[cell.target.digest]),
                "source": cell.source.network(sums[cell.source.digest]),
                "budget_used": max(tally.distances) if expected.threat.norm else None,
                "passes": {"forward": tally.passes.forward, "backward": tally.passes.backward},
                "extras": extras,
                "provenance": {**provenance(self.device), "sweep_seconds": round(seconds, 3)},
            }
        )
        self.store.write_record(record, counts, self.names, parts)

    def _measure(self) -> None:
        """Measure, once, a network that is attacked through its own gradients; see `segbench.reports.sanity`."""
        source = self.sweep.source
        own = any(cell.target.digest == source.digest for cell in self.sweep.cells)
        if self.attack.threat.access != "gradients" or not own or self.sweep.oblivious:
            return
        if self.store.measured(source.digest) is not None:
            return
        self._reset()
        samples = [self.split[index] for index in range(min(MEASURED_IMAGES, self.length))]
        crops = [self.protocol.crops(sample.image, sample.mask) for sample in samples]
        first = next(packs(crops, MEASURED_IMAGES))
        images = torch.cat([crops[m].images for m in first])[:MEASURED_IMAGES].to(self.device)
        masks = torch.cat([crops[m].masks for m in first])[:MEASURED_IMAGES].to(self.device)
        network = self.protocol.network(self.networks[source.digest])
        found = measure(network, images, masks, ignore_index=self.dataset.ignore_index)
        self.store.write_measured(source.digest, found)

    def _save(self, seconds: float) -> None:
        """Keep unfinished counts; with a dynamic target none: it starts again, as what it has learnt is not kept."""
        if not self.dynamic:
            save_unfinished(self.partial, self.tallies, self.names, self.batch, seconds)

    def _restore(self) -> float:
        """Take up unfinished counts where they are those of the same cells; return their seconds."""
        self.names, seconds = restore_unfinished(self.partial, self.tallies, self.batch)
        return seconds


def _fine(images: Tensor) -> NDArray[np.uint16]:
    """Return images (K, 3, h, w) in [0, 1] as (K, h, w, 3) in 0..65535."""
    return (images.detach().cpu().permute(0, 2, 3, 1) * 65535).round().numpy().astype(np.uint16)
