"""Which attack is stronger than which, measured on trained networks."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks.apgd import apgd
from attacks.base import count_passes
from attacks.bim import bim
from attacks.cw import cw
from attacks.losses import cross_entropy
from attacks.pgd import pgd
from attacks.sea import sea
from attacks.square import square
from segbench import catalog

pytestmark = pytest.mark.slow

VOID = 255
EPS = 0.03
LARGE = {"eps": 0.5, "alpha": 0.05, "steps": 60}
POINT = 1.0


@pytest.fixture(scope="module")
def hardened(trained: Any) -> Any:
    """The trained network after some adversarial training."""
    model = copy.deepcopy(trained.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for _ in range(60):
            picked = torch.randperm(len(trained.train_images))[:12]
            images, masks = trained.train_images[picked], trained.train_masks[picked]
            attacked = bim(model, images, masks, eps=EPS, alpha=0.01, steps=3)
            model.train()
            loss = nn.functional.cross_entropy(model(attacked), masks, ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return trained._replace(model=model.eval())


def accuracy(task: Any, images: Tensor) -> float:
    valid = task.masks != VOID
    with torch.no_grad():
        right = (task.model(images).argmax(1) == task.masks) & valid
    return 100 * float(right.sum() / valid.sum())


def miou(task: Any, images: Tensor) -> float:
    with torch.no_grad():
        preds = task.model(images).argmax(1)
    valid = task.masks != VOID
    preds, truth = preds[valid], task.masks[valid]
    both, made, true = (torch.bincount(labels, minlength=6) for labels in (truth[preds == truth], preds, truth))
    union = made + true - both
    return 100 * float((both[union > 0] / union[union > 0]).mean())


def class_pixels(task: Any) -> Tensor:
    counted = task.train_masks[task.train_masks != VOID]
    return torch.bincount(counted, minlength=6)


def few(task: Any, count: int = 6) -> Any:
    return task._replace(images=task.images[:count], masks=task.masks[:count])


def test_sea_is_stronger_than_its_losses_and_these_than_pgd(hardened: Any) -> None:
    task = few(hardened, 4)
    steps = 150
    arguments = (task.model, task.images, task.masks)
    pixels = class_pixels(task)
    plain = accuracy(task, pgd(*arguments, steps=steps))
    losses = {
        name: accuracy(task, apgd(*arguments, steps=steps, loss=name, class_pixels=pixels))
        for name in ("ce", "masked-ce", "balanced-masked-ce", "js")
    }
    ensemble = accuracy(task, sea(*arguments, steps=steps, class_pixels=pixels))
    clean = accuracy(task, task.images)
    print(f"clean {clean:.1f}, PGD {plain:.2f}, SEA {ensemble:.2f}, {losses}")
    assert ensemble <= min(losses[name] for name in ("masked-ce", "balanced-masked-ce", "js")) + POINT
    assert min(losses.values()) <= plain
    assert all(losses[name] <= plain + POINT for name in ("masked-ce", "balanced-masked-ce", "js"))


def test_more_steps_and_larger_eps_never_raise_accuracy(trained: Any, hardened: Any) -> None:
    for task in (few(trained), few(hardened)):
        arguments = (task.model, task.images, task.masks)
        for attack in (bim, pgd, cw):
            by_steps = [accuracy(task, attack(*arguments, alpha=0.005, steps=n)) for n in (1, 3, 10, 20)]
            by_eps = [accuracy(task, attack(*arguments, eps=e, alpha=e / 4, steps=10)) for e in (0.004, 0.015, 0.06)]
            print(attack.name, [round(a, 1) for a in by_steps], [round(a, 1) for a in by_eps])
            for series in (by_steps, by_eps):
                assert all(later <= earlier + POINT for earlier, later in itertools.pairwise(series))


ITERATIVE = [
    name
    for name, component in catalog.components("attack").items()
    if component.object.access == "gradients"
    and {"eps", "steps"} <= set(component.options)
    and component.object.minimises is None
]


BY_WRONG_PIXELS = {"apgd", "bim", "mifgsm", "pgd", "segpgd"}
"""Where cross-entropy over all pixels makes the gradient, those that are wrong already rule its sign, at any eps."""


@pytest.mark.parametrize("name", ITERATIVE)
def test_little_survives_a_large_eps(name: str, trained: Any, hardened: Any) -> None:
    attack = catalog.find("attack", name)
    options = {key: value for key, value in LARGE.items() if key in attack.options}
    for task in (few(trained, 4), few(hardened, 4)):
        bound = attack.object.bind(**options)
        made = bound(task.model, task.images, task.masks, class_pixels=class_pixels(task))
        print(f"{name}: {accuracy(task, made):.2f} % of pixels and {miou(task, made):.2f} mIoU left at eps 0.5")
        assert miou(task, made) <= (20 if name in BY_WRONG_PIXELS else 10)


@pytest.mark.parametrize("steps", [20, 50])
def test_cw_is_at_least_as_strong_as_bim_of_the_same_passes(steps: int, trained: Any) -> None:
    arguments = (trained.model, trained.images, trained.masks)
    with count_passes(trained.model) as cost:
        ours = accuracy(trained, cw(*arguments, eps=EPS, alpha=2 * EPS, steps=steps))
    with count_passes(trained.model) as bim_cost:
        reference = accuracy(trained, bim(*arguments, eps=EPS, alpha=EPS / 3, steps=steps + 1))
    print(f"{steps} steps: C&W {ours:.2f}, BIM {reference:.2f}")
    assert cost.forward == bim_cost.forward
    assert ours <= reference


def test_square_is_weaker_than_gradients_and_stronger_than_its_start(trained: Any) -> None:
    task = few(trained)
    start, searched = (accuracy(task, square(task.model, task.images, task.masks, queries=n)) for n in (1, 500))
    gradient = accuracy(task, pgd(task.model, task.images, task.masks, steps=20))
    print(f"stripes {start:.1f}, Square {searched:.1f}, PGD {gradient:.1f}")
    assert gradient <= searched < start


class Scaled(nn.Module):
    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model = model
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.scale * self.model(images)
        return logits


def test_larger_logits_gain_against_the_plain_attack_and_nothing_against_the_rescaled_one(trained: Any) -> None:
    network = Scaled(trained.model, 10.0)
    with torch.no_grad():
        logits = network(trained.images)
    right = logits.argmax(1) == trained.masks
    zero = float((cross_entropy(logits, trained.masks)[right] == 0).double().mean())
    plain, scaled, plain_rescaled, scaled_rescaled = (
        accuracy(trained, bim(model, trained.images, trained.masks, rescale=rescale))
        for rescale in (False, True)
        for model in (trained.model, network)
    )
    print(
        f"zero loss {zero:.1%}; BIM {plain:.2f} -> {scaled:.2f}; rescaled {plain_rescaled:.2f} -> {scaled_rescaled:.2f}"
    )
    assert zero > 0.3
    assert scaled > plain + POINT
    assert scaled_rescaled == pytest.approx(plain_rescaled, abs=0.2)
