"""Adversarial images -> what a target makes of them, image by image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from segbench.attacks.tools.budget import distance
from segbench.attacks.tools.guard import seeded
from segbench.defenses.base import Certified, Dynamic
from segbench.evaluation.batch_size import BatchSizes
from segbench.evaluation.batching import Pack, Read
from segbench.evaluation.counting import pixels
from segbench.evaluation.families import Answers, Truth, labelled, possible, seen, tallied, together
from segbench.evaluation.finite import faults, refuse
from segbench.evaluation.opened import Opened
from segbench.evaluation.precision import in_precision
from segbench.evaluation.regions import Limited, hidden_counts, limited
from segbench.evaluation.tally import Outcome, certified_confusion, on_target
from segbench.plan.evaluations import EvalCell
from segbench.reports.evidence import KeptImage
from segbench.seeding import derive, generator

T = TypeVar("T")


class Scoring:
    """Scores the targets of a sweep. What it finds stays on the device.

    Args:
        opened: the sweep.
        sizes: how many pieces go through networks at once.
        families: what is counted beside the pixels of each class, where the target and the protocol have it.
        kept: indices of the images that are shown.
    """

    def __init__(self, opened: Opened, sizes: BatchSizes, families: Sequence[str], kept: Collection[int]) -> None:
        self.opened, self.sizes, self.asked, self.kept = opened, sizes, families, kept
        self.attack = opened.sweep.attack.attack()
        self.protocol, self.device = opened.protocol, opened.device
        targets = {cell.digest: opened.networks[cell.target.digest] for cell in opened.sweep.cells}
        self.families = {digest: possible(families, target, self.protocol) for digest, target in targets.items()}
        self.truths: dict[tuple[int, ...], Truth] = {}
        self.answers: list[tuple[Tensor, str, list[str]]] = []

    def score(
        self,
        cell: EvalCell,
        part: str,
        adversarial: Tensor,
        allowed: Tensor | None,
        pack: Pack,
        outcomes: Sequence[Outcome],
    ) -> None:
        """Score the adversarial images of a pack.

        Args:
            cell: the evaluation.
            part: of an ensemble; "" for all other attacks.
            adversarial: the images, (K, 3, h, w).
            allowed: pixels that the attack may change, (K, h, w); None for an attack without a region.
            pack: the clean images.
            outcomes: of all images of the pack's chunk; takes in what is found.
        """
        target = self.opened.networks[cell.target.digest]
        if isinstance(target, Dynamic):
            target.adapt(adversarial)

        def some(places: slice) -> None:
            own, pieces = pack.some(places)
            self._score(cell, part, adversarial[pieces], None if allowed is None else allowed[pieces], own, outcomes)

        self._in_parts(cell, adversarial[: len(pack.reads)], some)

    def _score(
        self,
        cell: EvalCell,
        part: str,
        adversarial: Tensor,
        allowed: Tensor | None,
        pack: Pack,
        outcomes: Sequence[Outcome],
    ) -> None:
        """Score as many images as fit with what is counted on them; see `score`."""
        moved = pack.by_image(self._distances(adversarial, pack.images))
        shown, limits = pack.by_image(adversarial), self._limits(cell, allowed, pack)
        for group, preds, answers in self._predict(cell, adversarial, pack):
            known = self._truth(pack.reads[group])
            counts = pixels(preds, known.labels, self.opened.classes, self.opened.void)
            tallies = tallied(self.families[cell.digest], preds, answers, known)
            for n, place in enumerate(range(group.start, group.stop)):
                outcome, far = outcomes[pack.places[place]], moved[place].max()
                outcome.tallies[part] = {family: found[n] for family, found in tallies.items()}
                outcome.distance = far if outcome.distance is None else torch.maximum(outcome.distance, far)
                self._aimed(outcome, preds[n], known.labels[n], limits[place])
                if pack.reads[place].index in self.kept:
                    right = counts[n, 0].sum()
                    if all(right < other[0].sum() for other in outcome.counts.values()):
                        outcome.shown = shown[place], preds[n]
                outcome.counts[part] = counts[n]

    def certify(self, cell: EvalCell, read: Read, outcome: Outcome) -> float:
        """Count the certified pixels of an image, piece by piece, as the pieces are attacked; return the radius."""
        target: Any = self.opened.networks[cell.target.digest]
        # Under sliding windows the target alone does not predict, so that its certificates say nothing.
        if self.protocol.network(target) is not target or not isinstance(target, Certified):
            return 0.0
        images = read.crops.images.to(self.device)
        generators = [generator(cell.seed, "certify", read.index, piece) for piece in range(len(images))]
        found = self._in_parts(cell, images, lambda part: target.certify(images[part], generators[part]))
        labels = torch.cat([labels for labels, _ in found])
        masks = read.crops.masks.to(labels.device)
        outcome.certified = certified_confusion(labels, masks, self.opened.classes, self.opened.void)
        return found[0][1]

    def check(self) -> None:
        """See that all scores so far were finite, and forget the images that they are of.

        Raises:
            CellError: some were not; it names the images.
        """
        answers, self.answers = self.answers, []
        self.truths.clear()
        if not answers:
            return
        for found, (_, label, names) in zip(
            torch.stack([flags for flags, _, _ in answers]).tolist(), answers, strict=True
        ):
            refuse(found, label, names)

    def image(self, read: Read, shown: tuple[Tensor, Tensor]) -> KeptImage:
        """Return an image as it was attacked and predicted; of an ensemble's parts, by the one that did most harm."""
        adversarial, preds = shown
        palette = np.array(self.opened.dataset.palette, np.uint8)
        truth, labels = (own.cpu().numpy().astype(np.uint8) for own in (read.crops.truth, preds))
        return KeptImage(
            read.index, read.sample.name, palette, _fine(read.crops.images), _fine(adversarial), truth, labels
        )

    def _aimed(self, outcome: Outcome, preds: Tensor, truth: Tensor, limit: Limited | None) -> None:
        """Count what an attack with a target or a region left of an image."""
        aim, void = self.attack.options.get("target"), self.opened.void
        if aim is not None:
            outcome.on_target = on_target(preds, truth, aim, void)
        if limit is not None:
            outside = truth.masked_fill(limit.own, void)
            outcome.outside = pixels(preds[None], outside[None], self.opened.classes, void)[0]
            outcome.hidden = None if limit.objects is None else hidden_counts(preds, truth, limit)

    def _predict(self, cell: EvalCell, images: Tensor, pack: Pack) -> Iterator[tuple[slice, Tensor, Answers | None]]:
        """Yield the label maps that a cell's target gives for images of a pack that are counted together.

        With them come the images' places in the pack, and the answers behind the labels. A network's own randomness is
        seeded by the cell and the first of the pieces, apart from that of the attack.
        """
        attacked = self.attack.threat.access != "none"
        target = in_precision(self.opened.networks[cell.target.digest], self.opened.precision)

        def scores_of(part: slice) -> Tensor:
            with seeded(derive(cell.seed, "score", *pack.keys[part][0]), self.device):
                return self.protocol.scores(target, images[part], attacked=attacked)

        parts = self._in_parts(cell, images, scores_of)
        scores = parts[0] if len(parts) == 1 else torch.cat(parts)
        self.answers.append((faults(scores), cell.target.label, pack.names))
        pieces, crops = pack.by_image(scores), [read.crops for read in pack.reads]
        for group in together([own.truth.shape for own in crops], self.opened.classes):
            yield group, *labelled(self.protocol, pieces[group], crops[group])

    def _in_parts(self, cell: EvalCell, images: Tensor, work: Callable[[slice], T]) -> list[T]:
        """Do some work with a cell's target on as many pieces or images as fit; a dynamic one takes all of an image."""
        if self.opened.dynamic:
            return [work(slice(None))]
        network = self.protocol.network(self.opened.networks[cell.target.digest])
        return self.sizes.in_parts(cell.target.digest, network, images, cell.target.label, work)

    def _limits(self, cell: EvalCell, allowed: Tensor | None, pack: Pack) -> list[Limited | None]:
        """Return what of each image an attack with a region aims at; None for all other attacks."""
        if allowed is None:
            return [None] * len(pack.places)
        before: list[Tensor | None] = [None] * len(pack.places)
        if self.attack.attack.objects is not None:
            before = [labels for _, preds, _ in self._predict(cell, pack.images, pack) for labels in preds]
        return [
            limited(self.attack, self.protocol, read.crops, own, clean, self.opened.void)
            for read, own, clean in zip(pack.reads, pack.by_image(allowed), before, strict=True)
        ]

    def _truth(self, reads: Sequence[Read]) -> Truth:
        """Return the truth of some images, with what tallies need of it: worked out once for all targets and steps."""
        key = tuple(read.index for read in reads)
        if key not in self.truths:
            truths = (read.crops.truth for read in reads)
            self.truths[key] = seen(truths, self.asked, self.opened.classes, self.opened.void, self.device)
        return self.truths[key]

    def _distances(self, adversarial: Tensor, images: Tensor) -> Tensor:
        """Return how far each piece was moved, in the attack's own norm; zeros where it has none."""
        norm = self.attack.threat.norm or self.attack.attack.minimises
        return distance(adversarial, images, norm) if norm else images.new_zeros(len(images), dtype=torch.float64)


def _fine(images: Tensor) -> Any:
    """Return images (K, 3, h, w) in [0, 1] as (K, h, w, 3) in 0..65535."""
    return (images.detach().cpu().permute(0, 2, 3, 1) * 65535).round().numpy().astype(np.uint16)
