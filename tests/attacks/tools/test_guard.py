"""A network's own random numbers in an attack are not those of the scoring, and everything is left as found."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.bim import bim
from segbench.attacks.fgsm import fgsm
from segbench.attacks.pgd import pgd
from segbench.attacks.tools.guard import guarded, seeded, stream_seed
from segbench.attacks.universal import universal

CPU = torch.device("cpu")


class Noisy(nn.Module):
    """A randomised defense: every forward pass adds new noise to the image. It keeps the noise that it drew."""

    def __init__(self, model: nn.Module, sigma: float = 0.05) -> None:
        super().__init__()
        self.model = model
        self.sigma = sigma
        self.drawn: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        noise = torch.randn_like(images)
        self.drawn.append(noise)
        logits: Tensor = self.model(images + self.sigma * noise)
        return logits


@pytest.fixture
def noisy(task: Any) -> Noisy:
    return Noisy(task.model.eval())


def seeds(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def global_state() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


@pytest.mark.parametrize("attack", [fgsm, bim, pgd], ids=lambda attack: attack.name)
def test_the_network_draws_other_noise_when_it_is_scored(attack: Any, task: Any, noisy: Noisy) -> None:
    torch.manual_seed(7)
    made = attack(noisy, task.images, task.masks)
    attacked_with = noisy.drawn.copy()
    noisy(made)
    assert attacked_with
    assert not any(torch.equal(noise, noisy.drawn[-1]) for noise in attacked_with)


def test_an_attack_that_knows_the_noise_of_the_scoring_looks_stronger(task: Any, noisy: Noisy) -> None:
    # This is why the guard seeds the network: scored with the noise of the attack's pass, fewer pixels are right than
    # with other noise, about 2 of 100 here.
    network = Noisy(task.model.eval(), sigma=0.5)
    valid = task.masks != 255

    def right(images: Tensor, seed: int) -> float:
        with seeded(seed, CPU), torch.no_grad():
            return float(((network(images).argmax(1) == task.masks) & valid).double().sum() / valid.sum())

    known, fresh = [], []
    for seed in range(16):
        generators = seeds(3, first=10 * seed)
        used = stream_seed(generators, "attack")
        made = fgsm(network, task.images, task.masks, generator=generators)
        known.append(right(made, used))
        fresh.append(right(made, stream_seed(generators, "scores")))
    assert sum(known) / 16 < sum(fresh) / 16 - 0.01


def test_same_generators_give_the_same_bits_whatever_the_global_state(task: Any, noisy: Noisy) -> None:
    made = []
    for state in (1, 2):
        torch.manual_seed(state)
        made.append(bim(noisy, task.images, task.masks, generator=seeds(3)))
    assert torch.equal(*made)
    other = bim(noisy, task.images, task.masks, generator=seeds(3, first=50))
    assert not torch.equal(made[0], other)
    assert torch.equal(bim(noisy, task.images, task.masks), bim(noisy, task.images, task.masks))


def test_a_bound_attack_hands_its_generator_to_the_network(task: Any, noisy: Noisy) -> None:
    first, again, other = (bim.bind()(noisy, task.images, task.masks, generator=seeds(3, first=n)) for n in (0, 0, 100))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    iterates = bim.bind().iterates([6], noisy, task.images, task.masks, generator=seeds(3))
    assert torch.equal(iterates[6], first)


def test_every_step_draws_new_noise(task: Any, noisy: Noisy) -> None:
    bim(noisy, task.images, task.masks, steps=4)
    drawn = noisy.drawn
    assert len(drawn) == 4
    assert not any(torch.equal(drawn[i], drawn[j]) for i in range(4) for j in range(i))


def test_a_generator_is_not_drawn_from_for_the_seed(task: Any) -> None:
    generators = seeds(3)
    before = [g.get_state() for g in generators]
    bim(task.model, task.images, task.masks, generator=generators)
    assert all(torch.equal(g.get_state(), state) for g, state in zip(generators, before, strict=True))
    assert stream_seed(generators, "attack") != stream_seed(generators, "scores")
    assert stream_seed(generators, "attack") != stream_seed(seeds(3, first=1), "attack")
    assert stream_seed(generators[0], "attack") == stream_seed(generators[:1], "attack")


class Drawing(nn.Module):
    """Draws from every global generator that a network may know."""

    def forward(self, images: Tensor) -> Tensor:
        shift = torch.rand(()) + np.random.random() + random.random()  # noqa: NPY002
        return torch.cat([images * shift, -images], 1)


@pytest.fixture
def drawn_from() -> tuple[Any, ...]:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    return global_state()


def test_all_global_generators_are_seeded_and_restored(drawn_from: tuple[Any, ...]) -> None:
    network, images = Drawing(), torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with guarded(network, CPU, seed=5):
        first = network(images)
    assert global_state() == drawn_from
    np.random.seed(9)  # noqa: NPY002
    random.seed(9)
    torch.manual_seed(9)
    with guarded(network, CPU, seed=5):
        assert torch.equal(network(images), first)
    with guarded(network, CPU, seed=6):
        assert not torch.equal(network(images), first)


def test_an_error_leaves_everything_as_it_was(drawn_from: tuple[Any, ...], task: Any) -> None:
    class Failing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            Drawing()(images)
            raise RuntimeError("no more")

    network = Failing().train()
    with pytest.raises(RuntimeError, match="no more"):
        fgsm(network, task.images, task.masks)
    assert global_state() == drawn_from
    assert network.training


def test_fitting_a_perturbation_repeats(task: Any, noisy: Noisy) -> None:
    batches = [(task.images, task.masks)]
    fitted = []
    for state in (1, 2):
        torch.manual_seed(state)
        fitted.append(universal.bind(epochs=1).fit(noisy, batches))
    assert torch.equal(*fitted)
