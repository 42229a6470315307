"""Passes of attacks, trainings and predictions, counted by running each on a toy network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.attacks.tools.passes import Passes, count_passes
from segbench.components.specs import Bound
from segbench.defenses.base import Certified, Dynamic
from segbench.errors import SegbenchError
from segbench.evaluation.anticipating import Anticipating
from segbench.execution.short_runs import by_short_runs, shorter
from segbench.model_zoo.base import Features, Segmenter
from segbench.plan.networks import NetworkCell, TrainCell
from segbench.plan.traits import Need, needs, toy_segmenter
from segbench.training import batches

TOY_SIZE = 32
"""The smallest that every attack takes."""
TOY_BATCH = 4
TOY_CLASSES = 3


@cache
def attack_passes(
    attack: Bound, defense: Bound | None = None, *, oblivious: bool = False, anticipating: bool = False
) -> Passes:
    """Count what an attack costs for one image; early stops may save some of it.

    Args:
        attack: the attack.
        defense: the attacked network's defense, since one prediction may take many passes; None for none.
        oblivious: the attack is made on the network without it.
        anticipating: the attack is made on the network as it will stand when it has learned from the image.
    """
    if attack.attack().threat.access == "none":
        return Passes()

    def attacked(own: BoundAttack, network: nn.Module, images: Tensor, masks: Tensor) -> None:
        own(network, images, masks, **context(images, TOY_CLASSES))

    return _of_attack(attacked, attack, defense, oblivious=oblivious, anticipating=anticipating)


@cache
def fitting_passes(
    attack: Bound, defense: Bound | None = None, *, oblivious: bool = False, anticipating: bool = False
) -> Passes:
    """Count what it costs for one training image to fit an attack's perturbation; see `attack_passes`."""

    def fitted(own: BoundAttack, network: nn.Module, images: Tensor, masks: Tensor) -> None:
        own.fit(network, [(images, masks)])

    return _of_attack(fitted, attack, defense, oblivious=oblivious, anticipating=anticipating)


@cache
def scoring_passes(defense: Bound | None = None, *, certified: bool = False, dynamic: bool = False) -> Passes:
    """Count what scoring one image costs: taking it in and certifying it, where that is done, and predicting it.

    Args:
        defense: the network's defense; None for none.
        certified: its certificates are scored too.
        dynamic: it learns from the image first.
    """

    def count(defense: Bound | None) -> Passes:
        network = _deployed(defense)
        images = _toy_images(1)
        with _counted(network) as passes:
            beside_predicting(network, images, certified=certified, dynamic=dynamic)
            with torch.no_grad():
                network(images)
        return passes

    return by_short_runs(count, defense=defense)


@cache
def training_passes(defense: Bound) -> Passes:
    """Count what a step of a defense costs for each image of the batch, rounded up.

    Raises:
        SegbenchError: it cannot be trained, as with an attack that has to be fitted first.
    """

    def count(defense: Bound) -> Passes:
        torch.manual_seed(0)
        untargeted = _with_untargeted_attacks(defense)
        built = untargeted.make(segmenter=toy_segmenter(), aux_weight=0.4, ignore_index=255).train()
        with _counted(built) as passes:
            batches.loss(built, _toy_batch(needs(built)), 0, 0).total.backward()  # type: ignore[no-untyped-call]
        return passes

    try:
        passes = by_short_runs(count, defense=defense)
    except ValueError as error:
        raise SegbenchError(f"{defense.short} cannot be trained: {error}") from error
    return Passes(-(-passes.forward // TOY_BATCH), -(-passes.backward // TOY_BATCH))


def defense_of(cell: NetworkCell) -> Bound | None:
    """Return the defense of a network that is trained here; nothing is known of what others do inside."""
    return cell.defense if isinstance(cell, TrainCell) else None


def short_defense(defense: Bound) -> Bound:
    """Return a defense that takes few samples or steps at inference."""
    return shorter(defense, partial(scoring_passes, certified=True, dynamic=True))


def beside_predicting(network: nn.Module, images: Tensor, *, certified: bool, dynamic: bool) -> None:
    """Do what an evaluation does beside predicting: let a network take in images (N, 3, H, W), or certify them."""
    if dynamic and isinstance(network, Dynamic):
        network.adapt(images)
    if certified and isinstance(network, Certified):
        network.certify(images, [torch.Generator().manual_seed(0) for _ in images])


def context(images: Tensor, num_classes: int) -> dict[str, Any]:
    """Return what an attack takes from training data, made up: it does not change the cost."""
    return {"class_pixels": torch.ones(num_classes), "perturbation": torch.zeros_like(images[0])}


def _of_attack(
    run: Callable[[BoundAttack, nn.Module, Tensor, Tensor], None],
    attack: Bound,
    defense: Bound | None,
    *,
    oblivious: bool,
    anticipating: bool,
) -> Passes:
    """Count what something costs that an attack does with a network, images and masks; see `attack_passes`."""
    few = None if defense is None else short_defense(defense)

    def seen(defense: Bound | None) -> tuple[nn.Module, nn.Module]:
        network = _deployed(defense)
        attacked = Anticipating(network, lambda adapted: adapted) if anticipating else network
        return network, network.plain if oblivious else attacked

    def calls(attack: BoundAttack) -> Passes:
        (network, attacked), images = seen(few), _toy_images(1)
        masks = network(images).argmax(1).detach()
        with count_passes(attacked) as passes:
            run(attack, attacked, images, masks)
        return passes

    def call(defense: Bound | None, backward: bool) -> Passes:
        network, attacked = seen(defense)
        with _counted(network) as passes:
            logits = attacked(_toy_images(1).requires_grad_())
            if backward and logits.requires_grad:
                logits.sum().backward()
        return passes

    made = by_short_runs(calls, attack=_untargeted_attack(attack.attack()))
    there, and_back = (by_short_runs(partial(call, backward=own), defense=defense) for own in (False, True))
    return Passes(
        made.forward * there.forward,
        made.forward * there.backward + made.backward * (and_back.backward - there.backward),
    )


def _untargeted_attack(attack: BoundAttack) -> BoundAttack:
    """Return an attack without a target: the toy network has few classes, and the cost is the same."""
    return replace(attack, options={**attack.options, "target": None}) if "target" in attack.options else attack


def _with_untargeted_attacks(defense: Bound) -> Bound:
    attacks = {name: value for name, value in defense.options.items() if isinstance(value, BoundAttack)}
    return defense.with_options(**{name: _untargeted_attack(attack) for name, attack in attacks.items()})


def _deployed(defense: Bound | None) -> Any:
    if defense is None:
        return toy_segmenter().eval()
    made = _with_untargeted_attacks(defense).make(segmenter=toy_segmenter(), aux_weight=0.4, ignore_index=255)
    return made.deploy().eval()


@contextmanager
def _counted(network: nn.Module) -> Iterator[Passes]:
    """Count passes through the trunks of a network, in images."""
    passes = Passes()

    def forward(module: nn.Module, inputs: object, features: Features) -> None:
        passes.forward += len(features.main)
        if features.main.requires_grad:
            features.main.register_hook(lambda gradient: backward(len(gradient)))  # type: ignore[no-untyped-call]

    def backward(images: int) -> None:
        passes.backward += images

    trunks = [module.trunk for module in network.modules() if isinstance(module, Segmenter)]
    handles = [trunk.register_forward_hook(forward) for trunk in trunks]
    yield passes
    for handle in handles:
        handle.remove()


def _toy_images(count: int) -> Tensor:
    return torch.rand(count, 3, TOY_SIZE, TOY_SIZE, generator=torch.Generator().manual_seed(0))


def _toy_batch(needed: Sequence[Need]) -> batches.Batch:
    images = _toy_images(TOY_BATCH)
    batch = {"images": images, "masks": torch.zeros_like(images[:, 0]).long()}
    if "depth" in needed:
        batch["depth"] = torch.ones_like(images[:, 0])
    if "clips" in needed:
        batch["frames"] = torch.stack([images] * 3, 1)
        batch["intrinsics"] = torch.eye(3).repeat(TOY_BATCH, 1, 1)
    return batch
