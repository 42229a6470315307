"""One sweep -> records: each image is attacked once and scored on every target that an evaluation asks for.

A dynamic target changes with the images that it is given. It gets the images of its sweep one by one, in order, and
starts from its state of deployment. Each image is first attacked, then given to the target, then scored. The attack
anticipates that (see `anticipating`), so that it meets the network that will be scored. Of an ensemble's parts, a
dynamic target is given the part that is worst for the attacked network.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segbench.attacks.tools.budget import BudgetExceeded, check_budget, distance
from segbench.attacks.tools.passes import count_passes
from segbench.attacks.tools.watch import watching
from segbench.config.matrix import Runtime
from segbench.defenses.base import Certified, Dynamic
from segbench.errors import CellError, Stopped, StoreError
from segbench.evaluation import unfinished
from segbench.evaluation.anticipating import Anticipating
from segbench.evaluation.batching import Pack, packed
from segbench.evaluation.curve import Seen
from segbench.evaluation.disturbed import disturbed
from segbench.evaluation.families import Truth, labelled, possible, seen, tallied
from segbench.evaluation.probes import allowance, measure
from segbench.evaluation.regions import Limited, hidden_counts, limited
from segbench.evaluation.results import as_record
from segbench.evaluation.tally import Outcome, Tally, certified_confusion, confusion, on_target
from segbench.evaluation.training_data import training_context
from segbench.evaluation.trajectory import recorded
from segbench.files import acquire
from segbench.networks.load import load_network, weights_sha256
from segbench.plan.cells import EvalCell
from segbench.plan.plan import Sweep
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.protocols.void import scored_split
from segbench.provenance import provenance
from segbench.reporter import Reporter
from segbench.reports.evidence import KeptImage
from segbench.reports.statistics import mean_iou
from segbench.seeding import derive, generator
from segbench.store import Store

CANDIDATES = 8
"""Images or crops of which the sanity measurements take the first few that have a label."""


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
            run = _SweepRun(replace(sweep, cells=cells or sweep.cells[:1]), store, runtime, device, reporter)
            run.go(bool(cells))
            complete = complete and run.complete()
    finally:
        lock.release()
    if complete:
        run_sweep(replace(sweep, shard=None), store, runtime, device, reporter)


def lacks_measurements(sweep: Sweep, store: Store) -> bool:
    """Whether the sanity measurements of a sweep's source are to be taken with it, and are not there."""
    try:
        return sweep.watched is not None and store.measured(sweep.source.digest) is None
    except StoreError:
        return True


class _SweepRun:
    """The state of one sweep while it runs."""

    def __init__(self, sweep: Sweep, store: Store, runtime: Runtime, device: torch.device, reporter: Reporter) -> None:
        self.sweep, self.store, self.runtime, self.device, self.reporter = sweep, store, runtime, device, reporter
        self.dynamic = any(cell.dynamic for cell in sweep.cells)
        self.batch = 1 if self.dynamic else runtime.eval_batch
        self.attack = sweep.attack.attack()
        first = sweep.cells[0]
        data = sweep.source.data
        self.dataset = data.open(runtime.data.get(data.dataset.name))
        self.classes, self.void = len(self.dataset.classes), self.dataset.ignore_index
        self.protocol: EvaluationProtocol = first.protocol.make()
        self.split = scored_split(self.dataset, first.split, self.protocol)
        self.length = len(self.split) if first.limit is None else min(first.limit, len(self.split))
        self.first, self.end = sweep.shard or (0, self.length)
        keep = runtime.keep_images
        self.kept = {(2 * i + 1) * self.length // (2 * keep) for i in range(keep)}
        cells = {cell.digest: cell for cell in (sweep.source, *sweep.targets)}
        self.networks = {
            digest: load_network(cell, store, device, self.classes, self.void) for digest, cell in cells.items()
        }
        self.weights = {digest: weights_sha256(cell, store) for digest, cell in cells.items()}
        source: Any = self.networks[sweep.source.digest]
        self.attacked: nn.Module = source.plain if sweep.oblivious else source
        targets = {cell.digest: self.networks[cell.target.digest] for cell in sweep.cells}
        self.tallies = {
            digest: Tally(families=possible(runtime.tallies, target, self.protocol))
            for digest, target in targets.items()
        }
        self.context: dict[str, Any] | None = None
        self.truths: dict[int, Truth] = {}
        self.allowed: Tensor | None = None
        self.names: list[str] = []
        self.trajectory: tuple[float, ...] = ()

    def go(self, score: bool) -> None:
        """Score all images, write the records, and measure the source; only the last where nothing is left to score.

        Of a shard, what was found is kept instead.
        """
        self._reset()
        if score:
            seconds = self._score_all()
            if self.sweep.shard is not None:
                self._save(seconds)
                return
            for cell in self.sweep.cells:
                self._write(cell, seconds)
            self.store.drop_unfinished(self.sweep.key)
        if lacks_measurements(self.sweep, self.store):
            self._measure()

    def complete(self) -> bool:
        """Whether the shards of the sweep have found something on every image."""
        covered = 0
        while covered < self.length and (found := self._kept_from(covered)) is not None:
            covered += len(found.names)
        return covered >= self.length

    def _score_all(self) -> float:
        """Attack and score every image; return the seconds that it took, in all runs together."""
        before, scored = 0.0, 0
        started = saved = time.monotonic()
        while (at := self.first + len(self.names)) < self.end:
            found = self._kept_from(at)
            if found is not None and at + len(found.names) <= self.end:
                before += self._take_up(found)
                continue
            if self.context is None:
                self._take_from_training_data()
            self._score(range(at, min(at + self.batch, self.end)))
            now = time.monotonic()
            scored += self.first + len(self.names) - at
            told = f"mIoU {self._miou():.1f}, {scored / (now - started):.1f} images/s"
            try:
                self.reporter.update(len(self.names), self.end - self.first, told)
            except Stopped:
                self._save(before + now - started)
                raise
            if now - saved > self.runtime.checkpoint_every:
                self._save(before + now - started)
                saved = time.monotonic()
        return before + time.monotonic() - started

    def _score(self, indices: Sequence[int]) -> None:
        """Attack some images, score them on every target, and add what was found to the tallies."""
        samples = [self.split[index] for index in indices]
        crops = [self.protocol.crops(sample.image, sample.mask) for sample in samples]
        outcomes = {digest: [Outcome() for _ in samples] for digest in self.tallies}
        self.truths.clear()
        for pack in packed(crops, indices, self.batch, self.device):
            made = self._attack(pack, [samples[place].name for place in pack.places])
            for cell in self.sweep.cells:
                for part, adversarial in self._views(cell, made).items():
                    self._score_pack(cell, part, adversarial, pack, outcomes[cell.digest])
        for cell in self.sweep.cells:
            for place, outcome in enumerate(outcomes[cell.digest]):
                if cell.certified:
                    self._certify(cell, indices[place], crops[place], outcome)
                self.tallies[cell.digest].add(outcome)
                if outcome.shown is not None:
                    image = self._image(indices[place], samples[place].name, crops[place], *outcome.shown)
                    self.tallies[cell.digest].kept[indices[place]] = self.store.keep_image(cell.digest, image)
        self.names += [sample.name for sample in samples]

    def _attack(self, pack: Pack, names: Sequence[str]) -> dict[str, Tensor]:
        """Return the adversarial images of a pack, by steps or part; their budget is checked and their cost noted."""
        attack, network = self.attack, self._seen_by_attack()
        seed = self.sweep.cells[0].seed
        generators = [generator(seed, attack.attack.name, *key) for key in pack.keys]
        context = {**(self.context or {}), "ignore_index": self.void, "generator": generators}
        made: dict[str, Tensor]
        with count_passes(network) as passes, self._watched(network, pack), self._curves(network, pack):
            if attack.attack.nested:
                wanted = {int(cell.attack.options["steps"]) for cell in self.sweep.cells}
                iterates = attack.iterates(wanted, network, pack.images, pack.masks, **context)
                made = {str(steps): adversarial for steps, adversarial in iterates.items()}
            elif self.sweep.cells[0].disturbs_whole:
                made = {"": disturbed(attack, network, pack, self.split, self.protocol, generators)}
            elif attack.attack.ensemble and not self.dynamic:
                made = attack.parts(network, pack.images, pack.masks, **context)
            else:
                made = {"": attack(network, pack.images, pack.masks, **context)}
        self.allowed = attack.allowed(pack.images, pack.masks, ignore_index=self.void, generator=generators)
        try:
            for adversarial in made.values():
                check_budget(adversarial, pack.images, attack.threat, allowed=self.allowed)
        except BudgetExceeded:
            with torch.no_grad():
                _finite(network(pack.images), self.sweep.source.label, names)
            raise
        for cell in self.sweep.cells:
            # A nested attack does every step for every image, so that each step costs the same.
            steps, most = (
                int(bound.options["steps"]) if attack.attack.nested else 1 for bound in (cell.attack, self.sweep.attack)
            )
            tally = self.tallies[cell.digest]
            tally.passes.forward += passes.forward * steps // most
            tally.passes.backward += passes.backward * steps // most
        return made

    def _seen_by_attack(self) -> nn.Module:
        """Return the network as the attack sees it."""
        if self.sweep.cells[0].anticipating:
            return Anticipating(self.attacked, self.protocol.network)
        return self.protocol.network(self.attacked)

    @contextlib.contextmanager
    def _curves(self, network: nn.Module, pack: Pack) -> Iterator[None]:
        """Add what the attack sees on its way to the curves of the white-box evaluations, where there is a budget."""
        threat = self.attack.threat
        whole = threat.access != "none" and threat.region is None
        if self.dynamic or self.sweep.oblivious or not whole or threat.norm is None or threat.eps is None:
            yield
            return
        seen = Seen(pack.masks, self.classes, self.void)
        with watching(network, pack.images, norm=threat.norm, eps=threat.eps, see=seen.see):
            yield
        for cell in self.sweep.cells:
            if cell.white:
                self.tallies[cell.digest].curve.add(seen)

    def _views(self, cell: EvalCell, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the adversarial images that a cell is scored on: one batch, or one for each part of an ensemble."""
        if self.attack.attack.nested:
            return {"": made[str(cell.attack.options["steps"])]}
        return dict(made)

    def _score_pack(
        self, cell: EvalCell, part: str, adversarial: Tensor, pack: Pack, outcomes: Sequence[Outcome]
    ) -> None:
        """Score one batch of adversarial images on a cell's target."""
        target = self.networks[cell.target.digest]
        if isinstance(target, Dynamic):
            target.adapt(adversarial)
        moved = pack.by_image(self._distances(adversarial, pack.images))
        pieces = pack.by_image(adversarial)
        families = self.tallies[cell.digest].families
        limits = self._limits(cell, pack)
        for place, crops, own, far, limit, (preds, probabilities) in zip(
            pack.places, pack.crops, pieces, moved, limits, self._predict(cell, adversarial, pack), strict=True
        ):
            outcome = outcomes[place]
            truth = crops.truth.to(preds.device)
            counts = confusion(preds, truth, self.classes, self.void)
            known = self._truth(pack.index(place), truth)
            outcome.tallies[part] = tallied(families, preds, probabilities, known)
            outcome.distance = max(outcome.distance, float(far.max()))
            if self.attack.options.get("target") is not None:
                outcome.on_target = on_target(preds, truth, self.attack.options["target"], self.void)
            if limit is not None:
                outcome.outside = confusion(preds, truth.masked_fill(limit.own, self.void), self.classes, self.void)
                outcome.hidden = None if limit.objects is None else hidden_counts(preds, truth, limit)
            right = counts[0].sum()
            if pack.index(place) in self.kept and all(right < other[0].sum() for other in outcome.counts.values()):
                outcome.shown = own, preds
            outcome.counts[part] = counts

    def _limits(self, cell: EvalCell, pack: Pack) -> list[Limited | None]:
        """Return what of each image an attack with a region aims at; None for all other attacks."""
        if self.allowed is None:
            return [None] * len(pack.places)
        before: list[Tensor | None] = [None] * len(pack.places)
        if self.attack.attack.objects is not None:
            before = [labels for labels, _ in self._predict(cell, pack.images, pack)]
        return [
            limited(self.attack, self.protocol, crops, own, clean, self.void)
            for crops, own, clean in zip(pack.crops, pack.by_image(self.allowed), before, strict=True)
        ]

    def _truth(self, index: int, labels: Tensor) -> Truth:
        """Return the truth of an image, with what tallies need of it: worked out once for all targets and steps."""
        if index not in self.truths:
            self.truths[index] = seen(labels, self.runtime.tallies, self.classes, self.void)
        return self.truths[index]

    def _predict(self, cell: EvalCell, adversarial: Tensor, pack: Pack) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the label map that a cell's target gives for each image of a pack, with probabilities if they count.

        A network's own randomness is seeded by the cell and the pack, apart from that of the attack.
        """
        attacked = self.attack.threat.access != "none"
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(derive(cell.seed, "score", *pack.keys[0]))
            scores = self.protocol.scores(self.networks[cell.target.digest], adversarial, attacked=attacked)
        _finite(scores, cell.target.label, [self.split[pack.index(place)].name for place in pack.places])
        counted = "confidence" in self.tallies[cell.digest].families
        for crops, own in zip(pack.crops, pack.by_image(scores), strict=True):
            yield labelled(self.protocol, own, crops) if counted else (self.protocol.merge(own, crops), None)

    def _certify(self, cell: EvalCell, index: int, crops: Crops, outcome: Outcome) -> None:
        """Count the certified pixels of an image, piece by piece, as the pieces are attacked."""
        target = self.networks[cell.target.digest]
        # Under sliding windows the target alone does not predict, so that its certificates say nothing.
        if not isinstance(target, Certified) or self.protocol.network(target) is not target:
            return
        generators = [generator(cell.seed, "certify", index, piece) for piece in range(len(crops.images))]
        labels, radius = target.certify(crops.images.to(self.device), generators)
        outcome.certified = certified_confusion(labels.cpu(), crops.masks, self.classes, self.void)
        self.tallies[cell.digest].radius = radius

    def _image(self, index: int, name: str, crops: Crops, adversarial: Tensor, preds: Tensor) -> KeptImage:
        """Return an image as it was attacked and predicted; of an ensemble's parts, by the one that did most harm."""
        palette = np.array(self.dataset.palette, np.uint8)
        truth, labels = (own.cpu().numpy().astype(np.uint8) for own in (crops.truth, preds))
        return KeptImage(index, name, palette, _fine(crops.images), _fine(adversarial), truth, labels)

    def _distances(self, adversarial: Tensor, images: Tensor) -> Tensor:
        """Return how far each piece was moved, in the attack's own norm; zeros where it has none."""
        norm = self.attack.threat.norm or self.attack.attack.minimises
        return distance(adversarial, images, norm) if norm else torch.zeros(len(images))

    def _miou(self) -> float:
        parts = self.tallies[self.sweep.cells[-1].digest].counts.values()
        return min(100 * float(mean_iou(np.sum(counts, axis=0), self.protocol.absent)) for counts in parts)

    def _write(self, cell: EvalCell, seconds: float) -> None:
        tally = self.tallies[cell.digest]
        found = as_record(cell, tally, self.protocol.absent, tuple(self.dataset.classes))
        share = None
        if self.attack.attack.nested:
            share = int(cell.attack.options["steps"]) / int(self.attack.options["steps"])
        record = found.record.model_copy(
            update={
                "curve": tally.curve.points(self.protocol.absent, share),
                "target": cell.target.network(self.weights[cell.target.digest]),
                "source": cell.source.network(self.weights[cell.source.digest]),
                "provenance": {**provenance(self.device), "sweep_seconds": round(seconds, 3)},
            }
        )
        self.store.write_record(record, found.counts, self.names, found.parts, tally.kept, found.tallies)

    def _take_from_training_data(self) -> None:
        """Get what some attacks take from the training data, and count what it costs."""
        self.context, fitting = training_context(
            self.attack,
            self._seen_by_attack(),
            self.dataset,
            self.sweep.source.network().recipe.get("split", "train"),
            self.protocol,
            self.batch,
            self.device,
        )
        for tally in () if self.names else self.tallies.values():  # what was taken up has counted it
            tally.passes.forward += fitting.forward
            tally.passes.backward += fitting.backward

    @contextlib.contextmanager
    def _watched(self, network: nn.Module, pack: Pack) -> Iterator[None]:
        """Note the losses along the attack on the split's first image, for the sanity measurements."""
        place = self._looked_at(pack)
        if place is None:
            yield
            return
        with recorded(network, pack.masks, place, ignore_index=self.void) as losses:
            yield
        self.trajectory = tuple(float(loss) for loss in losses)

    def _looked_at(self, pack: Pack) -> int | None:
        """Return the place in a pack of the piece whose loss is to be noted: the first with a label of image 0."""
        watched = self.sweep.watched
        if watched is None or watched.attack.short != self.sweep.attack.short or self._aimed() or self.trajectory:
            return None
        pieces = pack.by_image(pack.masks)[0] if pack.index(pack.places[0]) == 0 else ()
        return next((place for place, own in enumerate(pieces) if (own != self.void).any()), None)

    def _aimed(self) -> bool:
        """Whether the attack does not raise the loss of all pixels."""
        return self.attack.options.get("target") is not None or self.attack.attack.region is not None

    def _attack_first(self) -> tuple[float, ...]:
        """Attack the first images as a whole sweep does, and return the losses that are to be noted."""
        self._take_from_training_data()
        self._reset()
        samples = [self.split[index] for index in range(min(self.batch, self.length))]
        crops = [self.protocol.crops(sample.image, sample.mask) for sample in samples]
        pack = next(packed(crops, range(len(crops)), self.batch, self.device))
        self._attack(pack, [samples[place].name for place in pack.places])
        return self.trajectory

    def _measure(self) -> None:
        """Take the sanity measurements of the source; see `segbench.reports.sanity`."""
        self.reporter.update(self.length, self.length, "sanity probes")
        watched = self.sweep.watched
        assert watched is not None
        if not self.trajectory and not self._aimed():
            # The sweep went on from later images, or its records were there.
            alone = replace(self.sweep, cells=(watched,))
            again = _SweepRun(alone, self.store, self.runtime, self.device, self.reporter)
            self.trajectory = again._attack_first()
        self._reset()
        samples = [self.split[index] for index in range(min(CANDIDATES, self.length))]
        crops = [self.protocol.crops(sample.image, sample.mask) for sample in samples]
        pack = next(packed(crops, range(len(crops)), CANDIDATES, self.device))
        images, masks = pack.images[:CANDIDATES].contiguous(), pack.masks[:CANDIDATES]
        network = self.protocol.network(self.networks[self.sweep.source.digest])
        measured = measure(
            network,
            images,
            masks,
            passes=allowance(self._passes(watched)),
            trajectory=self.trajectory,
            ignore_index=self.void,
        )
        self.store.write_measured(self.sweep.source.digest, measured)

    def _passes(self, cell: EvalCell) -> int:
        """Return how many images went through networks for an evaluation, and for the clean images beside it."""
        record = self.store.record(cell.digest)
        return (0 if record is None else sum(record.passes.values())) + 2 * self.length

    def _reset(self) -> None:
        """Return the networks to their state of deployment."""
        for network in self.networks.values():
            if isinstance(network, Dynamic):
                network.reset()

    def _save(self, seconds: float) -> None:
        """Keep unfinished counts; none with a dynamic target, which starts again because its state is not kept."""
        if not self.dynamic:
            found = unfinished.Unfinished(self.tallies, self.names, self.batch, seconds, self.weights)
            self.store.write_unfinished(self.sweep.key, unfinished.pack(found), self.first)

    def _kept_from(self, first: int) -> unfinished.Unfinished | None:
        """Return unfinished counts from an image on, of the same cells, batch and weights; None if there are none."""
        try:
            content = self.store.unfinished(self.sweep.key, first)
            found = None if content is None else unfinished.unpack(content)
        except StoreError as error:
            self.reporter.say(f"{error}; the sweep starts again")
            return None
        if found is None or not found.names:
            return None
        if not found.fits(self.tallies, self.batch, self.weights):
            self.reporter.say(
                f"{self.sweep.label}: what was kept of it is of other evaluations; the sweep starts again"
            )
            return None
        done = self.kept & set(range(first, first + len(found.names)))
        for digest in self.tallies:
            kept = found.tallies[digest].kept
            if set(kept) != done or not all(self.store.keeps_image(digest, i, own) for i, own in kept.items()):
                self.reporter.say(f"{self.sweep.label}: its kept images are not whole; the sweep starts again")
                return None
        return found

    def _take_up(self, found: unfinished.Unfinished) -> float:
        """Go on behind unfinished counts; return their seconds."""
        for digest, tally in self.tallies.items():
            tally.extend(found.tallies[digest])
        self.names += found.names
        return found.seconds


def _finite(scores: Tensor, label: str, names: Sequence[str]) -> None:
    """Raise unless all scores of a network are finite."""
    if not torch.isfinite(scores).all():
        kind = "NaN" if torch.isnan(scores).any() else "infinite values"
        raise CellError(f"{label} answers with {kind} for {', '.join(names[:3])}: nothing of it can be scored")


def _fine(images: Tensor) -> Any:
    """Return images (K, 3, h, w) in [0, 1] as (K, h, w, 3) in 0..65535."""
    return (images.detach().cpu().permute(0, 2, 3, 1) * 65535).round().numpy().astype(np.uint16)
