"""What a plan costs: passes, and time, by calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from segbench.attacks.tools.passes import Passes
from segbench.config.matrix import Matrix, Recipe
from segbench.datasets.base import Dataset
from segbench.errors import DataError
from segbench.execution import prepare, workers
from segbench.execution.beside import Beside, beside
from segbench.execution.pass_counts import attack_passes, defense_of, fitting_passes, scoring_passes, training_passes
from segbench.execution.timing import Timer
from segbench.plan.networks import TrainCell
from segbench.plan.plan import Plan, Sweep, group
from segbench.store import Store


@dataclass(frozen=True)
class Lengths:
    """Sizes that a plan's cost depends on.

    Attributes:
        iterations: of a training.
        images: of an evaluation; None where the data is not there.
        fitted: training images that an evaluation's attack is fitted on, for those that are; None as above.
        pieces: into which the first image is cut, and so about every one, by the evaluation; 1 where it is not there.
    """

    iterations: dict[str, int | None]
    images: dict[str, int | None]
    fitted: dict[str, int | None] = field(default_factory=dict)
    pieces: dict[str, int] = field(default_factory=dict)


def lengths(plan: Plan) -> Lengths:
    """Look up how many iterations every training has and how many images every evaluation."""
    splits: dict[str, dict[str, int]] = {}
    cut: dict[str, int] = {}
    for bound in plan.matrix.datasets:
        try:
            dataset = prepare.open_bound(bound, plan.matrix.runtime.data)
            splits[bound.short] = {name: len(dataset.split(name)) for name in dataset.splits}
            cut[bound.short] = _pieces(dataset, plan.matrix)
        except DataError:
            splits[bound.short] = dict(getattr(bound.component.object, "lengths", {}))
    iterations: dict[str, int | None] = {}
    recipes = {id(cell.recipe): cell.recipe for cell in plan.trainings}  # seeds share theirs
    checked = {place: Recipe.model_validate(recipe) for place, recipe in recipes.items()}
    for cell in plan.trainings:
        recipe = checked[id(cell.recipe)]
        images = splits[cell.data.dataset.short].get(recipe.split)
        epochs = None if images is None or recipe.epochs is None else images // recipe.batch_size * recipe.epochs
        iterations[cell.digest] = recipe.iterations or epochs
    found = Lengths(iterations, {})
    for evaluation in plan.evaluations:
        digest, name = evaluation.digest, evaluation.target.data.dataset.short
        known = splits[name].get(evaluation.split)
        found.images[digest] = min(known, evaluation.limit or known) if known is not None else evaluation.limit
        found.pieces[digest] = cut.get(name, 1)
        if evaluation.attack.attack().attack.fit is not None:
            found.fitted[digest] = splits[name].get(evaluation.source.network().recipe.get("split", "train"))
    return found


def _pieces(dataset: Dataset, matrix: Matrix) -> int:
    """Return into how many pieces a protocol cuts the first image that is scored; 1 where there is none."""
    if matrix.split not in dataset.splits or not len(split := dataset.split(matrix.split)):
        return 1
    return len(matrix.protocol.make().crops(*split[0][1:]).images)


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
    digest, source = sweep.cells[0].digest, defense_of(sweep.source)
    seen = {"oblivious": sweep.oblivious, "anticipating": sweep.cells[0].anticipating}
    parts = [
        (end - first, attack_passes(sweep.attack, source, **seen)),
        *(
            (end - first, scoring_passes(defense_of(c.target), certified=c.certified, dynamic=c.dynamic))
            for c in sweep.cells
        ),
    ]
    if digest in known.fitted:
        fitted = known.fitted[digest]
        if fitted is None:
            return None
        parts.append((fitted, fitting_passes(sweep.attack, source, **seen)))
    pieces = known.pieces.get(digest, 1)
    return Passes(sum(n * p.forward for n, p in parts) * pieces, sum(n * p.backward for n, p in parts) * pieces)


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
    timer = Timer(plan, devices[0])
    seconds = 0.0
    for cell in trainings:
        seconds += timer.training_step(cell) * (known.iterations[cell.digest] or 0)
    for sweep in sweeps:
        seconds += timer.image(sweep) * (known.images[sweep.cells[0].digest] or 0)
    return replace(found, seconds=seconds / len(devices), workers=len(devices), device=str(devices[0]))
