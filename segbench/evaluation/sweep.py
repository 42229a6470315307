"""One sweep -> records: each image is attacked once and scored on every target that an evaluation asks for.

A dynamic target changes with the images that it is given. It gets the images of its sweep one by one, in order, and
starts from its state of deployment. Each image is first attacked, then given to the target, then scored. The attack
anticipates that (see `anticipating`), so that it meets the network that will be scored. Of an ensemble's parts, a
dynamic target is given the part that is worst for the attacked network.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from segbench.config.matrix import Runtime
from segbench.errors import Stopped
from segbench.evaluation import unfinished
from segbench.evaluation.attacking import Attacking, Made, checked, joined
from segbench.evaluation.batch_size import BatchSizes
from segbench.evaluation.batching import Pack, Read, packed
from segbench.evaluation.chunks import Chunks
from segbench.evaluation.measuring import lacks_measurements, measure_source
from segbench.evaluation.opened import open_sweep
from segbench.evaluation.precision import products
from segbench.evaluation.results import as_record
from segbench.evaluation.resuming import kept_from
from segbench.evaluation.scoring import Scoring
from segbench.evaluation.tally import Outcome, Tally, fetch
from segbench.evaluation.training_data import training_context
from segbench.files import acquire
from segbench.memory import out_of_memory
from segbench.plan.evaluations import EvalCell
from segbench.plan.plan import Sweep
from segbench.provenance import provenance
from segbench.read_ahead import waiting
from segbench.reporter import Reporter
from segbench.reports.statistics import mean_iou
from segbench.store import Store


def run_sweep(sweep: Sweep, store: Store, runtime: Runtime, device: torch.device, reporter: Reporter) -> None:
    """Evaluate the cells of a sweep that have no current record, and store their records.

    A shard keeps what it finds on its images. The one that ends last does the whole sweep, which takes up what all
    shards have found.

    Args:
        sweep: evaluations that share adversarial images, or a shard of one.
        store: where networks come from and records go.
        runtime: batch size, folders of datasets, what is kept.
        device: where it runs.
        reporter: hears of progress.

    Raises:
        Busy: another process works on this sweep.
        CellError: adversarial images exceed their budget, or a network answers with values that are not finite.
        Stopped: the user asked to stop; what is finished was kept.
    """
    lock = store.sweep_lock(sweep.key, sweep.shard)
    acquire(lock, sweep.label)
    complete = sweep.shard is not None
    try:
        cells = tuple(cell for cell in sweep.cells if not store.current(cell.digest))
        if cells or (sweep.shard is None and lacks_measurements(sweep, store)):
            with products(sweep.cells[0].precision):
                run = _SweepRun(replace(sweep, cells=cells or sweep.cells[:1]), store, runtime, device, reporter)
                run.go(bool(cells))
            complete = complete and run.complete()
    finally:
        lock.release()
    if complete:
        run_sweep(replace(sweep, shard=None), store, runtime, device, reporter)


class _SweepRun:
    """The state of one sweep while it runs."""

    def __init__(self, sweep: Sweep, store: Store, runtime: Runtime, device: torch.device, reporter: Reporter) -> None:
        self.sweep, self.store, self.runtime, self.reporter = sweep, store, runtime, reporter
        self.opened = open_sweep(sweep, store, runtime, device, reporter)
        self.length = self.opened.length
        self.first, self.end = sweep.shard or (0, self.length)
        keep = runtime.keep_images
        self.kept = {(2 * i + 1) * self.length // (2 * keep) for i in range(keep)}
        how = f"{sweep.cells[0].protocol.short}/{self.opened.precision}"
        self.sizes = BatchSizes(store, device, runtime.eval_batch, how)
        self.scoring = Scoring(self.opened, self.sizes, runtime.tallies, self.kept)
        self.tallies = {digest: Tally(families=families) for digest, families in self.scoring.families.items()}
        self.attacking: Attacking | None = None
        self.names: list[str] = []
        self.trajectory: Sequence[float] = ()
        self.seconds = self.waited = 0.0

    def go(self, score: bool) -> None:
        """Score all images, write the records, and measure the source; only the last where nothing is left to score.

        Of a shard, what was found is kept instead.
        """
        self.opened.reset()
        if score:
            self._score_all()
            if self.sweep.shard is not None:
                self._save()
                return
            for cell in self.sweep.cells:
                self._write(cell)
            self.store.drop_unfinished(self.sweep.key)
        watched = self.sweep.watched
        if watched is not None and lacks_measurements(self.sweep, self.store):
            self.reporter.update(self.length, self.length, "sanity probes")
            if not self.trajectory and not self._aimed():
                # The sweep went on from later images, or its records were there.
                alone = replace(self.sweep, cells=(watched,))
                again = _SweepRun(alone, self.store, self.runtime, self.opened.device, self.reporter)
                self.trajectory = again.losses_of_first()
            try:
                measure_source(self.opened, watched, self.store, self.trajectory)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                self.reporter.say(f"{self.sweep.source.label}: memory did not suffice for sanity probes; none are kept")

    def losses_of_first(self) -> Sequence[float]:
        """Attack the first images as a whole sweep does, and return the losses that are to be noted."""
        self.opened.reset()
        reads = next(iter(self._chunks(range(self.length))))
        self._made(next(packed(reads, sum(len(read.crops.images) for read in reads), self.opened.device)))
        return self.trajectory

    def complete(self) -> bool:
        """Whether the shards of the sweep have found something on every image."""
        covered = 0
        while covered < self.length and (found := self._kept_from(covered)) is not None:
            covered += len(found.names)
        return covered >= self.length

    def _score_all(self) -> None:
        """Attack and score every image that nothing is kept of."""
        while (at := self.first + len(self.names)) < self.end:
            found = self._kept_from(at)
            if found is not None and at + len(found.names) <= self.end:
                self._take_up(found)
                continue
            later = (first for first in self.store.unfinished_from(self.sweep.key) if at < first < self.end)
            self._score_until(min(later, default=self.end))

    def _score_until(self, end: int) -> None:
        """Attack and score the images from where the sweep is up to another."""
        started = saved = time.monotonic()
        before, waited = self.seconds, self.waited
        at = self.first + len(self.names)
        fitting = self.attacking is None and self.sweep.attack.attack().attack.fit is not None
        told = "fitting on training images" if fitting else "first images"  # which may take minutes
        self.reporter.update(len(self.names), self.end - self.first, told)
        chunks = self._chunks(range(at, end))
        for chunk in chunks:
            try:
                self._score(chunk)
                now = time.monotonic()
                self.seconds, self.waited = before + now - started, waited + chunks.waited
                pace = (self.first + len(self.names) - at) / (now - started)
                told = f"mIoU {self._miou():.1f}, {pace:.1f} images/s"
                self.reporter.update(len(self.names), self.end - self.first, told)
            except Stopped:
                if self.names:
                    self._save()
                raise
            if now - saved > self.runtime.checkpoint_every:
                self._save()
                saved = now
        if self.runtime.profile:
            self.reporter.say(waiting(self.sweep.label, self.seconds - before, chunks.waited))

    def _chunks(self, indices: range) -> Chunks:
        return Chunks(self.opened, self.sizes, self._attack().network, self.runtime, indices)

    def _score(self, reads: Sequence[Read]) -> None:
        """Attack some images, score them on every target, and add what was found to the tallies."""
        outcomes = {digest: [Outcome() for _ in reads] for digest in self.tallies}
        made_of: list[Made] = []
        pieces = sum(len(read.crops.images) for read in reads)
        for pack in packed(reads, pieces, self.opened.device):
            parts = self._made(pack)
            made_of += parts
            made, allowed = joined(parts)
            for cell in self.sweep.cells:
                for part, adversarial in self._views(cell, made).items():
                    self.scoring.score(cell, part, adversarial, allowed, pack, outcomes[cell.digest])
        for cell in self.sweep.cells:
            tally = self.tallies[cell.digest]
            if cell.certified:
                for read, outcome in zip(reads, outcomes[cell.digest], strict=True):
                    tally.radius = self.scoring.certify(cell, read, outcome)
            for read, outcome in zip(reads, fetch(outcomes[cell.digest]), strict=True):
                tally.add(outcome)
                if outcome.shown is not None:
                    image = self.scoring.image(read, outcome.shown)
                    tally.kept[read.index] = self.store.keep_image(cell.digest, image)
        self.scoring.check()
        self._count(made_of)
        self.names += [read.sample.name for read in reads]

    def _made(self, pack: Pack) -> list[Made]:
        """Attack a pack, in parts that fit into memory."""
        attacking, looked_at = self._attack(), self._looked_at(pack)
        if self.opened.dynamic or self.sweep.cells[0].disturbs_whole:
            parts = [attacking.make(pack, slice(0, len(pack.images)), looked_at)]
        else:
            source = self.sweep.source
            parts = self.sizes.in_parts(
                source.digest,
                attacking.network,
                pack.images,
                source.label,
                lambda part: attacking.make(pack, part, looked_at),
            )
        if looked_at is not None:
            self.trajectory = [float(loss) for part in parts for loss in part.losses]
        return parts

    def _count(self, parts: Sequence[Made]) -> None:
        """Add what attacks took, and what was seen on their way, to the tallies."""
        nested = self.sweep.attack.attack().attack.nested
        for cell in self.sweep.cells:
            # A nested attack does every step for every image, so that each step costs the same.
            steps, most = (int(bound.options["steps"]) if nested else 1 for bound in (cell.attack, self.sweep.attack))
            tally = self.tallies[cell.digest]
            for part in parts:
                tally.passes.forward += part.passes.forward * steps // most
                tally.passes.backward += part.passes.backward * steps // most
                if cell.white and part.seen is not None:
                    tally.curve.add(part.seen)

    def _looked_at(self, pack: Pack) -> int | None:
        """Return the place in a pack of the piece whose loss is to be noted: the first with a label of image 0."""
        watched = self.sweep.watched
        if watched is None or watched.attack.short != self.sweep.attack.short or self._aimed() or self.trajectory:
            return None
        pieces = pack.by_image(pack.masks)[0] if pack.reads[0].index == 0 else ()
        return next((place for place, own in enumerate(pieces) if (own != self.opened.void).any()), None)

    def _aimed(self) -> bool:
        """Whether the attack does not raise the loss of all pixels."""
        attack = self.sweep.attack.attack()
        return attack.options.get("target") is not None or attack.attack.region is not None

    def _views(self, cell: EvalCell, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the adversarial images that a cell is scored on: one batch, or one for each part of an ensemble."""
        if self.sweep.attack.attack().attack.nested:
            return {"": made[str(cell.attack.options["steps"])]}
        return dict(made)

    def _attack(self) -> Attacking:
        """Return the attack, with what it takes from the training data; count what that costs."""
        if self.attacking is None:
            opened = self.opened
            with checked(network := opened.seen_by_attack(), self.reporter.check):
                context, fitting = training_context(
                    self.sweep.attack.attack(),
                    network,
                    opened.dataset,
                    self.sweep.source.network().recipe.get("split", "train"),
                    opened.protocol,
                    opened.device,
                    scored=self.sweep.cells[0].split,
                    one_by_one=opened.dynamic,
                )
            self.attacking = Attacking(opened, context, self.reporter.check)
            for tally in () if self.names else self.tallies.values():  # what was taken up has counted it
                tally.passes.forward += fitting.forward
                tally.passes.backward += fitting.backward
        return self.attacking

    def _miou(self) -> float:
        parts = self.tallies[self.sweep.cells[-1].digest].counts.values()
        return min(100 * float(mean_iou(np.sum(counts, axis=0), self.opened.protocol.absent)) for counts in parts)

    def _write(self, cell: EvalCell) -> None:
        tally, opened = self.tallies[cell.digest], self.opened
        found = as_record(cell, tally, opened.protocol.absent, tuple(opened.dataset.classes))
        share = None
        if self.sweep.attack.attack().attack.nested:
            share = int(cell.attack.options["steps"]) / int(self.sweep.attack.options["steps"])
        seconds = {"sweep_seconds": round(self.seconds, 3), "waiting_seconds": round(self.waited, 3)}
        record = found.record.model_copy(
            update={
                "curve": tally.curve.points(opened.protocol.absent, share),
                "target": cell.target.network(opened.weights[cell.target.digest]),
                "source": cell.source.network(opened.weights[cell.source.digest]),
                "provenance": {**provenance(opened.device), **seconds},
            }
        )
        self.store.write_record(record, found.counts, self.names, found.parts, tally.kept, found.tallies)

    def _save(self) -> None:
        """Keep unfinished counts; none with a dynamic target, which starts again because its state is not kept."""
        if not self.opened.dynamic:
            found = unfinished.Unfinished(self.tallies, self.names, self.seconds, self.opened.weights)
            self.store.write_unfinished(self.sweep.key, unfinished.pack(found), self.first)

    def _kept_from(self, first: int) -> unfinished.Unfinished | None:
        """Return unfinished counts from an image on, if they are of this sweep."""
        return kept_from(self.opened, self.store, self.reporter, self.tallies, self.kept, first)

    def _take_up(self, found: unfinished.Unfinished) -> None:
        """Go on behind unfinished counts."""
        for digest, tally in self.tallies.items():
            tally.extend(found.tallies[digest])
        self.names += found.names
        self.seconds += found.seconds
