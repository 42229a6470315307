"""How long the jobs of a plan take on this machine, from a few timed steps of each kind.

Of a long attack, and of a defense that takes many samples, a short one is timed in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from segbench.attacks.tools.passes import Passes
from segbench.config.matrix import Recipe
from segbench.evaluation.anticipating import Anticipating
from segbench.evaluation.batch_size import CPU_PIXELS
from segbench.execution import prepare
from segbench.execution.pass_counts import (
    attack_passes,
    beside_predicting,
    context,
    defense_of,
    scoring_passes,
    short_defense,
    training_passes,
)
from segbench.execution.short_runs import shorter
from segbench.model_zoo.layout import layout
from segbench.networks.load import open_external
from segbench.plan.evaluations import EvalCell
from segbench.plan.networks import NetworkCell, TrainCell
from segbench.plan.plan import Plan, Sweep
from segbench.plan.traits import needs
from segbench.protocols.base import Crops
from segbench.protocols.void import scored_split
from segbench.training import batches


class Timer:
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
            short = shorter(cell.defense, training_passes)
            defense = replace(cell, defense=short).build(len(dataset.classes), dataset.ignore_index)
            order = layout(defense, self.device)
            defense.to(self.device, memory_format=order).train()
            seen = batches.TrainingImages(dataset, recipe, 0, needs(defense))
            read = default_collate([seen[0, index] for index in range(recipe.batch_size)])
            batch = {name: value.to(self.device) for name, value in read.items()}
            batch["images"] = batch["images"].contiguous(memory_format=order)

            def step() -> None:
                batches.loss(defense, batch, 0, 0).total.backward()  # type: ignore[no-untyped-call]

            self.known[key] = self._time(step) * _ratio(training_passes(cell.defense), training_passes(short))
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
            short = {cell.digest: _with_short_defense(cell) for cell in (source, *sweep.targets)}
            built = {digest: self._network(cell, dataset) for digest, cell in short.items()}
            network: Any = built[source.digest]
            attacked = protocol.network(network.plain if sweep.oblivious else network)
            if anticipating:
                attacked = Anticipating(network, protocol.network)
            count = partial(attack_passes, oblivious=sweep.oblivious, anticipating=anticipating)
            short_attack = shorter(sweep.attack, partial(count, defense=defense_of(source)))
            attack, made_up = short_attack.attack(), context(images, len(dataset.classes))

            def attacking() -> None:
                attack(attacked, images, masks, ignore_index=dataset.ignore_index, **made_up)

            def scoring(cell: EvalCell) -> None:
                target = built[cell.target.digest]
                # Under sliding windows nothing is certified.
                certified = cell.certified and protocol.network(target) is target
                beside_predicting(target, images, certified=certified, dynamic=cell.dynamic)
                protocol.scores(target, images, attacked=attack.threat.access != "none")

            passes = count(sweep.attack, defense_of(source)), count(short_attack, defense_of(short[source.digest]))
            seconds = self._time(attacking) * _ratio(*passes)
            for cell in sweep.cells:
                count = partial(scoring_passes, certified=cell.certified, dynamic=cell.dynamic)
                passes = count(defense_of(cell.target)), count(defense_of(short[cell.target.digest]))
                seconds += self._time(partial(scoring, cell)) * _ratio(*passes)
            self.known[key] = seconds / len(crops)
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
        self._wait()
        started = time.perf_counter()
        for _ in range(2):
            step()
        self._wait()
        return (time.perf_counter() - started) / 2

    def _wait(self) -> None:
        """Wait until a GPU has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _with_short_defense(cell: NetworkCell) -> NetworkCell:
    return replace(cell, defense=short_defense(cell.defense)) if isinstance(cell, TrainCell) else cell


def _ratio(passes: Passes, short: Passes) -> float:
    """Return how many times as long something takes as something shorter."""
    return (passes.forward + passes.backward) / max(1, short.forward + short.backward) if passes != short else 1.0


def _together(image: Crops) -> int:
    """Return how many images like one are timed at once.

    A small image alone takes more than twice its share of a whole batch, and one of eight a sixth more.
    """
    return max(1, min(8, CPU_PIXELS // image.masks.numel()))


def _kind(cell: NetworkCell) -> str:
    """Return what the time of a network's predictions depends on."""
    return f"{cell.model.short} {cell.defense.short}" if isinstance(cell, TrainCell) else cell.label
