"""What a plan costs: passes, counted by running each attack and defense on a toy network, and time, by calibration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from torch import Tensor, nn

from attacks.base import Passes, count_passes
from model_zoo.base import Features
from segbench import engine, networks, prepare, specs, train
from segbench.cells import NetworkCell, TrainCell, attack_of, build_defense, revive
from segbench.errors import DataError
from segbench.matrix import Recipe
from segbench.plan import Plan, Sweep, group
from segbench.store import Store
from segbench.toy import toy_segmenter

TOY_SIZE = 8
TOY_BATCH = 4


@cache
def attack_passes(short: str) -> Passes:
    """Count what an attack, given by its short string, costs for one image; early stops may save some of it."""
    attack = specs.bound("attack", short).attack()
    if attack.threat.access == "none":
        return Passes()
    model = toy_segmenter().eval()
    images = torch.rand(1, 3, TOY_SIZE, TOY_SIZE, generator=torch.Generator().manual_seed(0))
    masks = model(images).argmax(1).detach()
    with count_passes(model) as passes:
        attack(model, images, masks, **_context(images, 3))
    return passes


def _context(images: Tensor, num_classes: int) -> dict[str, Any]:
    """Return what an attack takes from training data, made up: it does not change the cost."""
    return {"class_pixels": torch.ones(num_classes), "perturbation": torch.zeros_like(images[0])}


@cache
def training_passes(short: str) -> Passes:
    """Count what a step of a defense, given by its short string, costs for each image of the batch, rounded up."""
    torch.manual_seed(0)
    segmenter = toy_segmenter()
    defense = specs.bound("defense", short).make(segmenter=segmenter, aux_weight=0.4, ignore_index=255).train()
    passes = Passes()

    def count(module: nn.Module, inputs: object, features: Features) -> None:
        passes.forward += len(features.main)
        if features.main.requires_grad:
            features.main.register_hook(lambda gradient: backward(len(gradient)))  # type: ignore[no-untyped-call]

    def backward(images: int) -> None:
        passes.backward += images

    handle = segmenter.trunk.register_forward_hook(count)
    images = torch.rand(TOY_BATCH, 3, TOY_SIZE, TOY_SIZE)
    defense.loss(images, torch.zeros_like(images[:, 0]).long(), torch.Generator().manual_seed(0)).total.backward()
    handle.remove()
    return Passes(-(-passes.forward // TOY_BATCH), -(-passes.backward // TOY_BATCH))


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
        images = splits[cell.data.component.short].get(recipe.split)
        epochs = None if images is None or recipe.epochs is None else images // recipe.batch_size * recipe.epochs
        iterations[cell.digest] = recipe.iterations or epochs
    scored: dict[str, int | None] = {}
    for evaluation in plan.evaluations:
        known = splits[evaluation.target.data.component.short].get(evaluation.split)
        scored[evaluation.digest] = min(known, evaluation.limit or known) if known is not None else evaluation.limit
    return Lengths(iterations, scored)


def summary(plan: Plan, store: Store, *, estimate: bool) -> RenderableType:
    """Say what a plan would run: cells, passes, what is cached and what sharing saves.

    Args:
        plan: the plan.
        store: where results would go.
        estimate: time a few steps of everything and estimate the whole.
    """
    known = lengths(plan)
    trainings = [cell for cell in plan.trainings if store.trained(cell.digest) is None]
    evaluations = [cell for cell in plan.evaluations if not store.evaluated(cell.digest)]
    sweeps = group(evaluations)
    table = Table(title=plan.matrix.title, title_justify="left")
    for heading in ("", "cells", "cached", "to do", "forward passes", "backward passes"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = (
        ("trainings", len(plan.trainings), len(trainings), _sum(_training(cell, known) for cell in trainings)),
        ("evaluations", len(plan.evaluations), len(evaluations), _sum(_sweep(sweep, known) for sweep in sweeps)),
    )
    for name, total, left, passes in rows:
        shown = (f"{passes.forward:,}", f"{passes.backward:,}") if passes else ("unknown", "unknown")
        table.add_row(name, str(total), str(total - left), str(left), *shown)
    parts: list[RenderableType] = [table, _sharing(sweeps, known)]
    if None in known.iterations.values() or None in known.images.values():
        parts.append("Some data is not there, so its number of images is not known; name its folder with --data.")
    if estimate:
        parts.append(_estimate(plan, trainings, sweeps, known))
    return Group(*parts)


def _training(cell: TrainCell, known: Lengths) -> Passes | None:
    iterations = known.iterations[cell.digest]
    if iterations is None:
        return None
    each, images = training_passes(cell.defense.short), iterations * int(cell.recipe["batch_size"])
    return Passes(each.forward * images, each.backward * images)


def _sweep(sweep: Sweep, known: Lengths) -> Passes | None:
    images = known.images[sweep.cells[0].digest]
    if images is None:
        return None
    each = attack_passes(sweep.attack.short)
    return Passes((each.forward + len(sweep.cells)) * images, each.backward * images)


def _sum(passes: Iterable[Passes | None]) -> Passes | None:
    found = list(passes)
    counted = [p for p in found if p is not None]
    if len(counted) < len(found):
        return None
    return Passes(sum(p.forward for p in counted), sum(p.backward for p in counted))


def _sharing(sweeps: Sequence[Sweep], known: Lengths) -> str:
    alone = _sum(_sweep(Sweep(cell.source, (cell,)), known) for sweep in sweeps for cell in sweep.cells)
    shared = _sum(_sweep(sweep, known) for sweep in sweeps)
    count = sum(len(sweep.cells) for sweep in sweeps)
    if not alone or not shared or not alone.backward:
        return f"{count} evaluations in {len(sweeps)} sweeps."
    saved = 100 * (1 - shared.backward / alone.backward)
    return f"{count} evaluations in {len(sweeps)} sweeps: sharing saves {saved:.0f} % of the backward passes."


def _estimate(plan: Plan, trainings: Sequence[TrainCell], sweeps: Sequence[Sweep], known: Lengths) -> str:
    """Time one step of each kind of job on this machine and add up."""
    runtime = plan.matrix.runtime
    devices = engine.resolve_devices(runtime.device, runtime.workers, len(trainings) + len(sweeps))
    timer = _Timer(plan, devices[0])
    seconds = 0.0
    for cell in trainings:
        seconds += timer.training_step(cell) * (known.iterations[cell.digest] or 0)
    for sweep in sweeps:
        seconds += timer.image(sweep) * (known.images[sweep.cells[0].digest] or 0)
    hours = seconds / len(devices) / 3600
    shown = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
    return f"About {shown} with {len(devices)} worker(s) on {devices[0]}, from a few timed steps of each kind."


class _Timer:
    """Times steps on real samples, each kind of job once; networks have fresh weights."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        self.known: dict[tuple[str, ...], float] = {}

    def training_step(self, cell: TrainCell) -> float:
        """Seconds of an iteration of this training."""
        key = (cell.data.component.short, cell.model.short, cell.defense.short, str(cell.recipe))
        if key not in self.known:
            dataset = self._dataset(cell)
            recipe = Recipe.model_validate(cell.recipe)
            seen = train.TrainingImages(dataset.split(recipe.split), recipe, 0)
            samples = [seen[0, index] for index in range(recipe.batch_size)]
            images = torch.stack([image for image, _ in samples]).to(self.device, memory_format=torch.channels_last)
            masks = torch.stack([mask for _, mask in samples]).to(self.device)
            defense = build_defense(cell, len(dataset.classes), dataset.ignore_index)
            defense.to(self.device, memory_format=torch.channels_last).train()

            def step() -> None:
                defense.loss(images, masks, torch.Generator().manual_seed(0)).total.backward()

            self.known[key] = self._time(step)
        return self.known[key]

    def image(self, sweep: Sweep) -> float:
        """Seconds of a sweep for each of its images: the attack once, and a forward pass for every evaluation."""
        source = sweep.source
        key = (source.data.component.short, source.model.short, sweep.attack.short, str(len(sweep.cells)))
        if key not in self.known:
            dataset = self._dataset(source)
            split = dataset.split(self.plan.matrix.split)
            protocol = revive("protocol", sweep.cells[0].protocol).make()
            crops = protocol.crops(*split[0][1:])
            images, masks = crops.images.to(self.device), crops.masks.to(self.device)
            model = self._network(source, dataset)
            attack = attack_of(sweep.attack)

            def step() -> None:
                context = _context(images, len(dataset.classes))
                made = attack(protocol.network(model), images, masks, ignore_index=dataset.ignore_index, **context)
                for _ in sweep.cells:
                    protocol.scores(model, made, attacked=True)

            self.known[key] = self._time(step)
        return self.known[key]

    def _network(self, cell: NetworkCell, dataset: Any) -> nn.Module:
        """Return the network of a cell, with fresh weights where it is yet to be trained."""
        if isinstance(cell, TrainCell):
            built = build_defense(cell, len(dataset.classes), dataset.ignore_index).deploy()
            network: nn.Module = built.to(self.device).eval()
            return network
        return networks.open_given(cell.given, cell.data, dataset).adapter.to(self.device)

    def _dataset(self, cell: NetworkCell) -> Any:
        return prepare.open_bound(revive("dataset", cell.data.component), self.plan.matrix.runtime.data)

    def _time(self, step: Callable[[], None]) -> float:
        step()
        started = time.perf_counter()
        for _ in range(2):
            step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return (time.perf_counter() - started) / 2
