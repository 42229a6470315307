"""Each measurement on a network that is masked on purpose, and on the same network unmasked."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from segbench.probes import Scaled, measure, optimises
from segbench.sanity import network_flags

VOID = 255


class Task(NamedTuple):
    model: nn.Module
    images: Tensor
    masks: Tensor


@pytest.fixture(scope="module")
def task() -> Task:
    """A network trained to tell a bright square from the ground, by its brightness alone."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(24, 16, 16, dtype=torch.long)
    for i in range(24):
        top, left = torch.randint(8, (2,), generator=generator).tolist()
        masks[i, top : top + 8, left : left + 8] = 1
    images = 0.46 + 0.08 * masks[:, None] + 0.02 * torch.randn(24, 3, 16, 16, generator=generator)
    images = images.clamp(0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(150):
            loss = nn.functional.cross_entropy(model(images), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    masks[:, 0] = VOID
    return Task(model.requires_grad_(False), images[:4], masks[:4])


def found(task: Task, model: nn.Module) -> tuple[str, ...]:
    return network_flags(measure(model, task.images, task.masks))


def test_an_honest_network_has_no_flag(task: Task) -> None:
    measured = measure(task.model, task.images, task.masks)
    assert network_flags(measured) == ()
    assert len(measured.trajectory) == 7
    assert measured.trajectory[-1] > measured.trajectory[0]
    assert measured.at_large_eps < 5
    assert measured.zero_loss < 0.1


def test_enlarged_logits_are_flagged(task: Task) -> None:
    names = found(task, Scaled(task.model, 1000.0))
    assert "zero-loss" in names
    assert "scale-dependent" in names or "survives-large-eps" in names


class Quantised(nn.Module):
    """Rounds the input: the classic shattered gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model((images * 255).round() / 255)
        return logits


def test_a_network_that_rounds_its_input_is_flagged(task: Task) -> None:
    names = found(task, Quantised(task.model))
    assert "zero-gradient" in names
    assert "survives-large-eps" in names


class Noisy(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images + 0.05 * torch.randn_like(images))
        return logits


def test_a_random_network_is_flagged(task: Task) -> None:
    assert "non-deterministic" in found(task, Noisy(task.model))


class Purifying(nn.Module):
    """Moves its input towards certain predictions before it predicts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            moved = images.detach().requires_grad_()
            certainty = self.model(moved).log_softmax(1).amax(1).sum()
            (gradient,) = torch.autograd.grad(certainty, moved)
        logits: Tensor = self.model(images + 0.01 * gradient.sign())
        return logits


class Counting(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        logits: Tensor = self.model(images)
        return logits


@pytest.mark.parametrize("wrapper", [Purifying, Counting])
def test_a_network_that_adapts_while_it_predicts_is_flagged(wrapper: Any, task: Task) -> None:
    assert "test-time-optimisation" in found(task, wrapper(task.model))
    assert not optimises(task.model, task.images)


def test_measuring_leaves_the_network_as_found(task: Task) -> None:
    model = nn.Sequential(task.model, nn.BatchNorm2d(2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, task.images, task.masks)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
