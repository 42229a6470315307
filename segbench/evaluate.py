"""One sweep -> Records: adversarial images are made once and scored on every target that an evaluation asks for."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.base import BoundAttack, Passes, check_budget, count_passes, distance
from reports.statistics import mean_iou
from segbench import metrics, train
from segbench.cells import EvalCell, attack_of, open_dataset, revive
from segbench.errors import CellError, Stopped
from segbench.plan import Sweep
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.provenance import provenance
from segbench.seeding import generator
from segbench.store import Store, acquire, write_bytes
from segbench.train import Reporter


@dataclass
class Tally:
    """What one evaluation has found so far.

    Attributes:
        counts: per image (3, C): intersections, predicted and true pixels of every class.
        budget_used: largest distance of an adversarial image.
        passes: of the source network, in images.
    """

    counts: list[NDArray[np.int64]] = field(default_factory=list)
    budget_used: float = 0.0
    passes: Passes = field(default_factory=Passes)


def run(
    sweep: Sweep,
    store: Store,
    *,
    device: torch.device,
    root: Path | None,
    batch: int,
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
            _Run(Sweep(sweep.source, tuple(cells)), store, device, root, batch).go(checkpoint_every, reporter)
    finally:
        lock.release()


class _Run:
    """The state of one sweep while it runs."""

    def __init__(self, sweep: Sweep, store: Store, device: torch.device, root: Path | None, batch: int) -> None:
        self.sweep, self.store, self.device, self.batch = sweep, store, device, batch
        self.dataset = open_dataset(sweep.source.data.component, root)
        self.split = self.dataset.split(sweep.cells[0].split)
        limit = sweep.cells[0].limit
        self.length = len(self.split) if limit is None else min(limit, len(self.split))
        self.protocol: EvaluationProtocol = revive("protocol", sweep.cells[0].protocol).make()
        self.attack = attack_of(sweep.attack)
        self.networks = {
            cell.digest: train.load(cell, store, device, len(self.dataset.classes), self.dataset.ignore_index)
            for cell in {c.digest: c for c in (sweep.source, *sweep.targets)}.values()
        }
        self.tallies = {cell.digest: Tally() for cell in sweep.cells}
        self.names: list[str] = []
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
        for cell in self.sweep.cells:
            self._write(cell, seconds)
        self.partial.unlink(missing_ok=True)

    def _chunk(self, indices: Sequence[int]) -> None:
        """Attack and score some images; those whose crops have one size share batches."""
        samples = [self.split[index] for index in indices]
        crops = [self.protocol.crops(sample.image, sample.mask) for sample in samples]
        found: dict[tuple[int, str], NDArray[np.int64]] = {}
        for members in packs(crops, self.batch):
            images = torch.cat([crops[m].images for m in members]).to(self.device, memory_format=torch.channels_last)
            masks = torch.cat([crops[m].masks for m in members]).to(self.device)
            keys = [(indices[m], piece) for m in members for piece in range(len(crops[m].images))]
            made = self._attacked(images, masks, keys)
            for cell in self.sweep.cells:
                for member, preds in self._predicted(cell, made, [crops[m] for m in members], members):
                    truth = crops[member].truth.to(preds.device)
                    found[member, cell.digest] = confusion(
                        preds, truth, len(self.dataset.classes), self.dataset.ignore_index
                    )
        for position in range(len(samples)):
            for digest, tally in self.tallies.items():
                tally.counts.append(found[position, digest])
        self.names += [sample.name for sample in samples]

    def _predicted(
        self, cell: EvalCell, made: dict[int, Tensor], crops: Sequence[Crops], members: Sequence[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the label map that a cell's target gives for each image of a pack."""
        attacked = self.attack.threat.access != "none"
        adversarial = made[cell.attack.options.get("steps", 0)]
        scores = self.protocol.scores(self.networks[cell.target.digest], adversarial, attacked=attacked)
        pieces = torch.split(scores, [len(own.images) for own in crops])
        for member, own, part in zip(members, crops, pieces, strict=True):
            yield member, self.protocol.merge(part, own)

    def _attacked(self, images: Tensor, masks: Tensor, keys: Sequence[tuple[int, int]]) -> dict[int, Tensor]:
        """Return the adversarial images by number of steps; their budget is checked and their cost noted."""
        attack, cells = self.attack, self.sweep.cells
        network = self.protocol.network(self.networks[self.sweep.source.digest])
        generators = [generator(cells[0].seed, attack.attack.name, index, piece) for index, piece in keys]
        wanted = {cell.attack.options.get("steps", 0) for cell in cells}
        with count_passes(network) as passes:
            if attack.attack.nested:
                made = attack.iterates(
                    wanted, network, images, masks, ignore_index=self.dataset.ignore_index, generator=generators
                )
            else:
                (steps,) = wanted
                made = {
                    steps: attack(network, images, masks, ignore_index=self.dataset.ignore_index, generator=generators)
                }
        used = {steps: self._used(attack, adversarial, images) for steps, adversarial in made.items()}
        for cell in cells:
            steps = cell.attack.options.get("steps", 0)
            # A nested attack does every step for every image, so that each step costs the same.
            share = (steps, max(wanted)) if attack.attack.nested else (1, 1)
            tally = self.tallies[cell.digest]
            tally.passes.forward += passes.forward * share[0] // share[1]
            tally.passes.backward += passes.backward * share[0] // share[1]
            tally.budget_used = max(tally.budget_used, used[steps])
        return made

    def _used(self, attack: BoundAttack, adversarial: Tensor, images: Tensor) -> float:
        threat = attack.threat
        check_budget(adversarial, images, threat)
        return float(distance(adversarial, images, threat.norm).max()) if threat.norm else 0.0

    def _miou(self) -> float:
        first = self.tallies[self.sweep.cells[-1].digest].counts
        return 100 * float(mean_iou(np.sum(first, axis=0), self.protocol.absent))

    def _write(self, cell: EvalCell, seconds: float) -> None:
        tally = self.tallies[cell.digest]
        counts = np.stack(tally.counts)
        sums = {c.digest: self.store.weights_sha256(c.digest) for c in (cell.target, cell.source)}
        expected = cell.expected()
        record = expected.model_copy(
            update={
                "status": "done",
                "classes": tuple(self.dataset.classes),
                "n_images": len(counts),
                "scores": metrics.scores(counts, self.protocol.absent),
                "target": cell.target.network(sums[cell.target.digest]),
                "source": cell.source.network(sums[cell.source.digest]),
                "budget_used": tally.budget_used if expected.threat.norm else None,
                "passes": {"forward": tally.passes.forward, "backward": tally.passes.backward},
                "provenance": {**provenance(self.device), "sweep_seconds": round(seconds, 3)},
            }
        )
        self.store.write_record(record, counts, self.names)

    def _save(self, seconds: float) -> None:
        """Keep unfinished counts, so that a killed sweep goes on at the batch where it was."""
        arrays: dict[str, NDArray[np.generic]] = {
            "names": np.array(self.names, dtype=str),
            "seconds": np.array(seconds),
            "batch": np.array(self.batch),
        }
        for digest, tally in self.tallies.items():
            arrays[f"counts/{digest}"] = np.stack(tally.counts)
            arrays[f"numbers/{digest}"] = np.array([tally.budget_used, tally.passes.forward, tally.passes.backward])
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_bytes(self.partial, buffer.getvalue())

    def _restore(self) -> float:
        """Take up unfinished counts where they are those of the same cells; return their seconds."""
        if not self.partial.is_file():
            return 0.0
        with np.load(self.partial, allow_pickle=False) as arrays:
            if int(arrays["batch"]) != self.batch or any(f"counts/{d}" not in arrays for d in self.tallies):
                return 0.0
            self.names = [str(name) for name in arrays["names"]]
            for digest, tally in self.tallies.items():
                tally.counts = list(arrays[f"counts/{digest}"])
                used, forward, backward = arrays[f"numbers/{digest}"].tolist()
                tally.budget_used, tally.passes = used, Passes(int(forward), int(backward))
            return float(arrays["seconds"])


def confusion(preds: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> NDArray[np.int64]:
    """Count the pixels of one image: (3, C) intersections, predicted and true pixels; void counts nowhere.

    Args:
        preds: predicted labels (H, W).
        truth: true labels (H, W).
        num_classes: number of classes C.
        ignore_index: label of void pixels.

    Raises:
        CellError: a label is neither a class nor void.
    """
    valid = truth != ignore_index
    preds, truth = preds[valid], truth[valid]
    if len(truth) and int(truth.max()) >= num_classes:
        raise CellError(f"a mask holds label {int(truth.max())}, but there are {num_classes} classes")
    rows = (truth[preds == truth], preds, truth)
    return torch.stack([torch.bincount(row, minlength=num_classes) for row in rows]).cpu().numpy()


def packs(crops: Sequence[Crops], batch: int) -> Iterator[list[int]]:
    """Group images into batches: crops of one size, at most `batch` of them unless one image has more.

    Args:
        crops: the pieces of each image.
        batch: largest number of pieces in a pack.
    """
    open_packs: dict[tuple[int, ...], list[int]] = {}
    for position, own in enumerate(crops):
        size = tuple(own.images.shape[2:])
        pack = open_packs.setdefault(size, [])
        if pack and sum(len(crops[m].images) for m in pack) + len(own.images) > batch:
            yield pack
            pack = open_packs[size] = []
        pack.append(position)
    yield from open_packs.values()
