"""Each measurement on a network that is masked on purpose, and on the same network unmasked."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from segbench.components import specs
from segbench.evaluation.probes import LEAST, MOST, Scaled, accuracy, allowance, measure
from segbench.reports.names import as_name
from segbench.reports.records import Component, Network, Record, RecordedThreat, Scores
from segbench.reports.sanity import flags, network_flags

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
    assert measured.at_large_eps is not None
    assert measured.at_large_eps < 5
    assert measured.zero_loss < 0.1
    assert measured.rise is not None
    assert 0.8 < measured.rise < 1.2


def test_enlarged_logits_are_flagged(task: Task) -> None:
    assert "zero-loss" in found(task, Scaled(task.model, 1000.0))


class Quantised(nn.Module):
    """Rounds the input: the classic shattered gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model((images * 255).round() / 255)
        return logits


def test_a_network_that_rounds_its_input_is_flagged(task: Task) -> None:
    assert "zero-gradient" in found(task, Quantised(task.model))


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
    assert not measure(task.model, task.images, task.masks).optimises


@pytest.mark.parametrize("evaluation", [0, 50, 96, 250, 400, 10_000])
def test_probes_cost_a_quarter_of_an_evaluation_at_most_beside_one_image(evaluation: int, task: Task) -> None:
    allowed = allowance(evaluation)
    assert allowed <= max(LEAST, evaluation / 4)
    spent = measure(task.model, task.images, task.masks, passes=allowed).passes
    assert spent is not None
    assert spent <= allowed <= MOST


def test_a_gradient_that_is_found_wrong_ends_the_measurements(task: Task) -> None:
    masked = measure(Quantised(task.model), task.images, task.masks)
    assert (masked.images, dict(masked.by_scale), masked.at_large_eps) == (1, {}, None)


def test_images_without_a_label_are_passed_over(task: Task) -> None:
    masks = task.masks.clone()
    masks[0] = VOID
    assert network_flags(measure(task.model, task.images, masks)) == ()
    masks[:] = VOID
    assert network_flags(measure(task.model, task.images, masks)) == ()


def test_measuring_leaves_the_network_as_found(task: Task) -> None:
    model = nn.Sequential(task.model, nn.BatchNorm2d(2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, task.images, task.masks)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def evaluated(task: Task, model: nn.Module, attack: str, source: nn.Module | None = None) -> Record:
    """A record of an attack on a network, as an evaluation makes it; with a source, of a transfer."""
    bound = specs.bound("attack", attack)
    images = bound.attack()(source or model, task.images, task.masks)
    aacc = accuracy(model, images, task.masks)
    scores = Scores(miou=aacc, macc=aacc, aacc=aacc, class_iou=(aacc, aacc), miou_low=aacc, miou_high=aacc)
    part, threat = Component(name="part", short="part"), bound.attack().threat
    return Record(
        digest=as_name(f"{attack} {source is not None}"),
        status="done",
        setting="white-box" if source is None else "black-box",
        dataset=part,
        data_fingerprint="f",
        classes=("ground", "square"),
        split="val",
        limit=None,
        protocol=part,
        absent="skip",
        target=Network(model=part, defense=part, seed=0, digest="target"),
        source=Network(model=part, defense=part, seed=0, digest="source" if source else "target"),
        attack=bound.identity,
        threat=RecordedThreat(norm=threat.norm, eps=threat.eps, access=threat.access),
        seed=0,
        scores=scores,
    )


class OnGrid(nn.Module):
    """Has a gradient only at images whose values are whole 255ths: the first step of an attack is its last."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        whole = (images * 255 - (images * 255).round()).abs().amax((1, 2, 3), keepdim=True) < 1e-3
        logits: Tensor = self.model(torch.where(whole, images, images.detach()))
        return logits + 0 * images.sum()


BIM = "bim(eps=0.04, alpha=0.0093, steps=8)"


@pytest.mark.parametrize(
    ("mask", "other", "from_unmasked", "flag"),
    [
        (Quantised, BIM, True, "black-box-beats-white-box"),
        (Quantised, "square(eps=0.04, queries=200)", False, "square-beats-gradients"),
        (OnGrid, "fgsm(eps=0.04)", False, "one-step-beats-iterative"),
    ],
)
def test_a_masked_network_is_told_by_what_beats_the_gradient_attack(
    mask: Any, other: str, from_unmasked: bool, flag: str, task: Task
) -> None:
    task = task._replace(images=(task.images * 255).round() / 255)
    for model, expected in ((mask(task.model), True), (task.model, False)):
        white = evaluated(task, model, BIM)
        beating = evaluated(task, model, other, task.model if from_unmasked else None)
        found = flags([white, beating]).get(white.digest, ())
        assert (flag in found) is expected, (found, white.scores, beating.scores)


def test_a_masked_network_is_told_by_what_it_keeps_at_a_large_eps(task: Task) -> None:
    large = "cw(eps=0.5, alpha=0.2, steps=50)"
    masked, honest = (evaluated(task, model, large) for model in (Quantised(task.model), task.model))
    assert flags([masked])[masked.digest] == ("survives-large-eps",)
    assert flags([honest]) == {}
