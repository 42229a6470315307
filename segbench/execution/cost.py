"""What a plan costs: passes, and time, by calibration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import nn
from torch.utils.data import default_collate

from segbench.attacks.tools.passes import Passes
from segbench.components.specs import Bound
from segbench.config.matrix import Recipe
from segbench.errors import DataError
from segbench.evaluation.anticipating import Anticipating
from segbench.evaluation.batch_size import CPU_PIXELS
from segbench.execution import prepare, workers
from segbench.execution.beside import Beside, beside
from segbench.execution.pass_counts import attack_passes, beside_predicting, context, scoring_passes, training_passes
from segbench.networks.load import open_external
from segbench.plan.networks import NetworkCell, TrainCell
from segbench.plan.plan import Plan, Sweep, group
from segbench.plan.traits import needs
from segbench.protocols.base import Crops
from segbench.protocols.void import scored_split
from segbench.store import Store
from segbench.training import batches


@dataclass(frozen=True)
class Lengths:
    """Sizes that a plan's cost depends on.

    Attributes:
        iterations: of a training.
        images: of an evaluation; None where the data is not there.
    """

    iterations: dict[str, int | None]
    images: dict[str, int | None]


def lengths(plan: Plan) -> Lengths:
    """Look up how many iterations every training has and how many images every evaluation."""
    splits: dict[str, dict[str, int]] = {}
    for bound in plan.matrix.datasets:
        try:
            dataset = prepare.open_bound(bound, plan.matrix.runtime.data)
            splits[bound.short] = {name: len(dataset.split(name)) for name in dataset.splits}
        except DataError:
            splits[bound.short] = dict(getattr(bound.component.object, "lengths", {}))
    iterations: dict[str, int | None] = {}
    for cell in plan.trainings:
        recipe = Recipe.model_validate(cell.recipe)
        images = splits[cell.data.dataset.short].get(recipe.split)
        epochs = None if images is None or recipe.epochs is None else images // recipe.batch_size * recipe.epochs
        iterations[cell.digest] = recipe.iterations or epochs
    scored: dict[str, int | None] = {}
    for evaluation in plan.evaluations:
        known = splits[evaluation.target.data.dataset.short].get(evaluation.split)
        scored[evaluation.digest] = min(known, evaluation.limit or known) if known is not None else evaluation.limit
    return Lengths(iterations, scored)


@dataclass(frozen=True)
class Row:
    """The cells of one kind in a plan.

    Attributes:
        total: number of cells.
        left: number of those that are to do.
        passes: that the ones to do take, in images; None where data is not there.
    """

    total: int
    left: int
    passes: Passes | None


@dataclass(frozen=True)
class Cost:
    """What a plan would run.

    Attributes:
        title: of the matrix.
        trainings: networks to train.
        evaluations: what is attacked and scored.
        sweeps: number of sweeps that share adversarial images.
        saved: share of the backward passes that sharing saves, in per cent; None where it is not known.
        beside: what is done beside the evaluations.
        seconds: about how long it takes, from a few timed steps; None where that was not asked for.
        workers: that share these seconds.
        device: that was timed.
        refusals: what cannot be made because a network gives too little, a sentence each.
    """

    title: str
    trainings: Row
    evaluations: Row
    sweeps: int
    saved: float | None
    beside: Beside
    seconds: float | None = None
    workers: int = 1
    device: str = ""
    refusals: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return it as data."""
        found = asdict(self)
        for kind in ("trainings", "evaluations"):
            row = found[kind]
            row["cached"] = row["total"] - row["left"]
        return found


def measured(plan: Plan, store: Store, *, estimate: bool) -> Cost:
    """Count what a plan would run: cells, passes, what is cached and what sharing saves.

    Args:
        plan: the plan.
        store: where results would go.
        estimate: time a few steps of everything and estimate the whole.
    """
    known = lengths(plan)
    trainings = [cell for cell in plan.trainings if store.trained(cell.digest) is None]
    evaluations = [cell for cell in plan.evaluations if not store.evaluated(cell.digest)]
    sweeps = group(evaluations)

    def with_clean(sweep: Sweep) -> int | None:
        passes, images = _sweep(sweep, known), known.images[sweep.cells[0].digest]
        return None if passes is None or images is None else passes.forward + passes.backward + images

    found = Cost(
        plan.matrix.title,
        Row(len(plan.trainings), len(trainings), _sum(_training(cell, known) for cell in trainings)),
        Row(len(plan.evaluations), len(evaluations), _sum(_sweep(sweep, known) for sweep in sweeps)),
        len(sweeps),
        _saved(sweeps, known),
        beside(plan, sweeps, store, with_clean),
        refusals=plan.refusals,
    )
    return _timed(found, plan, trainings, sweeps, known) if estimate else found


def summary(found: Cost) -> RenderableType:
    """Say what a plan would run, for a terminal."""
    table = Table(title=escape(found.title), title_justify="left")
    for heading in ("", "cells", "cached", "to do", "forward passes", "backward passes"):
        table.add_column(heading, justify="left" if not heading else "right", overflow="fold")
    for name, row in (("trainings", found.trainings), ("evaluations", found.evaluations)):
        shown = (f"{row.passes.forward:,}", f"{row.passes.backward:,}") if row.passes else ("unknown", "unknown")
        table.add_row(name, str(row.total), str(row.total - row.left), str(row.left), *shown)
    sharing = f"{found.evaluations.left} evaluations in {found.sweeps} sweeps"
    if found.saved is not None:
        sharing += f": sharing saves {found.saved:.0f} % of the backward passes"
    parts: list[RenderableType] = [table, f"{sharing}.", *found.beside.sentences]
    if found.trainings.passes is None or found.evaluations.passes is None:
        parts.append("Some data is not there, so its number of images is not known; name its folder with --data.")
    parts += [Text(reason) for reason in found.refusals]
    if found.seconds is not None:
        hours = found.seconds / 3600
        shown_time = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
        parts.append(
            f"About {shown_time} with {found.workers} worker(s) on {found.device}, from a few timed steps of each kind."
        )
    return Group(*parts)


def job_passes(jobs: Mapping[str, TrainCell | Sweep], known: Lengths) -> dict[str, int]:
    """Return the forward and backward passes of each job, in images; 0 where they are not known."""
    found = {}
    for key, job in jobs.items():
        try:
            passes = _sweep(job, known) if isinstance(job, Sweep) else _training(job, known)
        except Exception:  # a user's attack or defense fails on the toy network; the job itself will say how
            passes = None
        found[key] = passes.forward + passes.backward if passes else 0
    return found


def _training(cell: TrainCell, known: Lengths) -> Passes | None:
    iterations = known.iterations[cell.digest]
    if iterations is None:
        return None
    each, images = training_passes(cell.defense), iterations * int(cell.recipe["batch_size"])
    return Passes(each.forward * images, each.backward * images)


def _sweep(sweep: Sweep, known: Lengths) -> Passes | None:
    first, end = sweep.shard or (0, known.images[sweep.cells[0].digest])
    if end is None:
        return None
    anticipating = sweep.cells[0].anticipating
    parts = [
        attack_passes(sweep.attack, _defense(sweep.source), oblivious=sweep.oblivious, anticipating=anticipating),
        *(scoring_passes(_defense(c.target), certified=c.certified, dynamic=c.dynamic) for c in sweep.cells),
    ]
    images = end - first
    return Passes(sum(p.forward for p in parts) * images, sum(p.backward for p in parts) * images)


def _defense(cell: NetworkCell) -> Bound | None:
    """Return the defense of a network that is trained here; nothing is known of what others do inside."""
    return cell.defense if isinstance(cell, TrainCell) else None


def _sum(passes: Iterable[Passes | None]) -> Passes | None:
    found = list(passes)
    counted = [p for p in found if p is not None]
    if len(counted) < len(found):
        return None
    return Passes(sum(p.forward for p in counted), sum(p.backward for p in counted))


def _saved(sweeps: Sequence[Sweep], known: Lengths) -> float | None:
    """Return the share of the backward passes that sweeps save against separate evaluations, in per cent."""
    alone = _sum(_sweep(Sweep(cell.source, (cell,)), known) for sweep in sweeps for cell in sweep.cells)
    shared = _sum(_sweep(sweep, known) for sweep in sweeps)
    if not alone or not shared or not alone.backward:
        return None
    return 100 * (1 - shared.backward / alone.backward)


def _timed(found: Cost, plan: Plan, trainings: Sequence[TrainCell], sweeps: Sequence[Sweep], known: Lengths) -> Cost:
    """Time one step of each kind of job on this machine and add up."""
    runtime = plan.matrix.runtime
    devices = workers.resolve_devices(runtime.device, runtime.workers, len(trainings) + len(sweeps))
    timer = _Timer(plan, devices[0])
    seconds = 0.0
    for cell in trainings:
        seconds += timer.training_step(cell) * (known.iterations[cell.digest] or 0)
    for sweep in sweeps:
        seconds += timer.image(sweep) * (known.images[sweep.cells[0].digest] or 0)
    return replace(found, seconds=seconds / len(devices), workers=len(devices), device=str(devices[0]))


def _together(image: Crops) -> int:
    """Return how many images like one are timed at once.

    A small image alone takes more than twice its share of a whole batch, and one of eight a sixth more.
    """
    return max(1, min(8, CPU_PIXELS // image.masks.numel()))


def _kind(cell: NetworkCell) -> str:
    """Return what the time of a network's predictions depends on."""
    return f"{cell.model.short} {cell.defense.short}" if isinstance(cell, TrainCell) else cell.label


class _Timer:
    """Times steps on real samples, each kind of job once; networks have fresh weights."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        self.known: dict[tuple[str, ...], float] = {}

    def training_step(self, cell: TrainCell) -> float:
        """Seconds of an iteration of this training."""
        key = (cell.data.dataset.short, cell.model.short, cell.defense.short, str(cell.recipe))
        if key not in self.known:
            dataset = self._dataset(cell)
            recipe = Recipe.model_validate(cell.recipe)
            defense = cell.build(len(dataset.classes), dataset.ignore_index)
            defense.to(self.device, memory_format=torch.channels_last).train()
            seen = batches.TrainingImages(dataset, recipe, 0, needs(defense))
            read = default_collate([seen[0, index] for index in range(recipe.batch_size)])
            batch = {name: value.to(self.device) for name, value in read.items()}
            batch["images"] = batch["images"].contiguous(memory_format=torch.channels_last)

            def step() -> None:
                batches.loss(defense, batch, 0, 0).total.backward()  # type: ignore[no-untyped-call]

            self.known[key] = self._time(step)
        return self.known[key]

    def image(self, sweep: Sweep) -> float:
        """Seconds of a sweep for each of its images: the attack once, and every evaluation's scoring."""
        source = sweep.source
        scored = [(_kind(cell.target), str(cell.certified), str(cell.dynamic)) for cell in sweep.cells]
        anticipating = sweep.cells[0].anticipating
        seen = str(sweep.oblivious), str(anticipating)
        key = (source.data.dataset.short, sweep.attack.short, *seen, _kind(source), *sum(scored, ()))
        if key not in self.known:
            dataset = self._dataset(source)
            protocol = sweep.cells[0].protocol.make()
            split = scored_split(dataset, self.plan.matrix.split, protocol)
            first = protocol.crops(*split[0][1:])
            together = 1 if sweep.cells[0].dynamic else min(_together(first), len(split))
            others = (protocol.crops(*split[index][1:]) for index in range(1, together))
            crops = [first, *(own for own in others if own.images.shape[1:] == first.images.shape[1:])]
            images = torch.cat([own.images for own in crops]).to(self.device, memory_format=torch.channels_last)
            masks = torch.cat([own.masks for own in crops]).to(self.device)
            built = {cell.digest: self._network(cell, dataset) for cell in (source, *sweep.targets)}
            network: Any = built[source.digest]
            attacked = protocol.network(network.plain if sweep.oblivious else network)
            if anticipating:
                attacked = Anticipating(network, protocol.network)
            attack = sweep.attack.attack()

            def step() -> None:
                made_up = context(images, len(dataset.classes))
                made = attack(attacked, images, masks, ignore_index=dataset.ignore_index, **made_up)
                for cell in sweep.cells:
                    target = built[cell.target.digest]
                    # Under sliding windows nothing is certified.
                    certified = cell.certified and protocol.network(target) is target
                    beside_predicting(target, made, certified=certified, dynamic=cell.dynamic)
                    protocol.scores(target, made, attacked=attack.threat.access != "none")

            self.known[key] = self._time(step) / len(crops)
        return self.known[key]

    def _network(self, cell: NetworkCell, dataset: Any) -> nn.Module:
        """Return the network of a cell, with fresh weights where it is yet to be trained."""
        if isinstance(cell, TrainCell):
            built = cell.build(len(dataset.classes), dataset.ignore_index).deploy()
            network: nn.Module = built.to(self.device).eval()
            return network
        return open_external(cell.external, cell.data, dataset).adapter.to(self.device)

    def _dataset(self, cell: NetworkCell) -> Any:
        return prepare.open_bound(cell.data.dataset, self.plan.matrix.runtime.data)

    def _time(self, step: Callable[[], None]) -> float:
        step()
        started = time.perf_counter()
        for _ in range(2):
            step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return (time.perf_counter() - started) / 2
