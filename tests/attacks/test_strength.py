"""Which attack is stronger than which, measured on trained networks."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.apgd import apgd
from segbench.attacks.bim import bim
from segbench.attacks.cw import cw
from segbench.attacks.mifgsm import mifgsm
from segbench.attacks.pgd import pgd
from segbench.attacks.sea import sea
from segbench.attacks.square import square
from segbench.attacks.tools.losses import cross_entropy
from segbench.attacks.tools.passes import count_passes
from segbench.attacks.universal import universal
from segbench.components import catalog, specs

pytestmark = pytest.mark.slow

VOID = 255
EPS = 0.03
LARGE = 0.5
POINT = 1.0


def mean_loss(model: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Return the mean cross-entropy of the valid pixels."""
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(images), masks, ignore_index=VOID))


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


TO_THE_END: dict[str, tuple[str, float]] = {
    "cw": ("cw(eps=0.5, alpha=0.2, steps=100)", 1.0),
    "cospgd": ("cospgd(eps=0.5, alpha=0.02, steps=200)", 3.0),
    "padam": ("padam(eps=0.5, steps=200, alpha=0.02, loss=cos)", 3.0),
    "deepfool": ("deepfool(eps=0.5, steps=200)", 3.0),
    "apgd, margin": ("apgd(eps=0.5, steps=200, loss=cw-margin)", 1.0),
    "apgd, js": ("apgd(eps=0.5, steps=200, loss=js)", 5.0),
    "apgd, masked-ce": ("apgd(eps=0.5, steps=200, loss=masked-ce)", 2.0),
}
"""Attacks whose loss leaves pixels alone that are wrong, and the per cent of pixels that may stay right."""
BY_SUM = ("apgd", "bim", "mifgsm", "pgd", "segpgd")
"""Attacks that raise a sum of cross-entropies, to which a pixel that is wrong already adds without end."""


def test_every_iterative_gradient_attack_is_tried_at_a_large_eps() -> None:
    iterative = {
        name
        for name, component in catalog.components("attack").items()
        if component.object.access == "gradients"
        and {"eps", "steps"} <= set(component.options)
        and component.object.minimises is None
        and component.object.objects is None  # these are after some pixels alone
    }
    assert iterative == {name.partition(",")[0] for name in TO_THE_END} | set(BY_SUM) | {"sea"}


@pytest.mark.parametrize("name", TO_THE_END)
def test_nothing_survives_a_large_eps(name: str, trained: Any, hardened: Any) -> None:
    written, most = TO_THE_END[name]
    for task in (few(trained, 4), few(hardened, 4)):
        made = specs.bound("attack", written).attack()(task.model, task.images, task.masks)
        left = accuracy(task, made)
        print(f"{written}: {left:.2f} % of pixels left")
        assert left <= most


def test_sea_leaves_nothing_at_a_large_eps(trained: Any, hardened: Any) -> None:
    for task in (few(trained, 4), few(hardened, 4)):
        made = sea(task.model, task.images, task.masks, eps=LARGE, steps=100, class_pixels=class_pixels(task))
        print(f"SEA: {accuracy(task, made):.2f} % of pixels left")
        assert accuracy(task, made) <= 5


@pytest.mark.parametrize("name", BY_SUM)
def test_a_sum_of_cross_entropies_can_be_large_while_pixels_stay_right(name: str, trained: Any, hardened: Any) -> None:
    # What such an attack leaves at a large eps is its loss's doing, not a weak search's: it reaches a higher
    # cross-entropy than images have on which nothing is right.
    options = {"eps": LARGE, "steps": 50} | ({"keep": "loss"} if name == "apgd" else {"alpha": LARGE / 10})
    for task in (few(trained, 4), few(hardened, 4)):
        arguments = (task.model, task.images, task.masks)
        made = catalog.find("attack", name).object.bind(**options)(*arguments)
        fooled = cw(*arguments, eps=LARGE, alpha=0.2, steps=100)
        print(f"{name}: {accuracy(task, made):.2f} % left at {mean_loss(*arguments[:1], made, task.masks):.2f}")
        assert accuracy(task, fooled) <= 1
        assert mean_loss(task.model, made, task.masks) > mean_loss(task.model, fooled, task.masks)
        assert accuracy(task, made) < accuracy(task, task.images) / 1.5


@pytest.mark.parametrize("eps", [0.01, 4 / 255, 0.03, 8 / 255])
@pytest.mark.parametrize("network", ["trained", "trained_deeplab"])
def test_cw_is_at_least_as_strong_as_bim_of_the_same_passes(
    network: str, eps: float, request: pytest.FixtureRequest
) -> None:
    task = request.getfixturevalue(network)
    arguments = (task.model, task.images, task.masks)
    with count_passes(task.model) as cost:
        ours = accuracy(task, cw(*arguments, eps=eps))
    theirs = []
    for alpha in (eps / 4, eps / 3, eps):
        with count_passes(task.model) as bim_cost:
            theirs.append(accuracy(task, bim(*arguments, eps=eps, alpha=alpha, steps=21)))
        assert cost.forward == bim_cost.forward
    print(f"eps {eps:.4f}: C&W {ours:.2f}, BIM {[round(value, 2) for value in theirs]}")
    assert ours <= min(theirs)


def test_square_is_weaker_than_gradients_and_stronger_than_its_start(trained: Any) -> None:
    task = few(trained)
    start, searched = (accuracy(task, square(task.model, task.images, task.masks, queries=n)) for n in (1, 500))
    gradient = accuracy(task, pgd(task.model, task.images, task.masks, steps=20))
    print(f"stripes {start:.1f}, Square {searched:.1f}, PGD {gradient:.1f}")
    assert gradient <= searched < start


def test_images_carry_over_to_another_network(trained: Any, trained_deeplab: Any) -> None:
    # Momentum and diversity change little on networks and images as small as these, so that no order is asserted.
    eps = 0.06
    signs = torch.randint(2, trained.images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = accuracy(trained_deeplab, (trained.images + eps * signs).clamp(0, 1))
    left = {}
    for name, options in {
        "plain": {"momentum": 0.0},
        "momentum": {"momentum": 1.0},
        "both": {"momentum": 1.0, "diversity": 0.7},
    }.items():
        made = mifgsm(trained.model, trained.images, trained.masks, eps=eps, alpha=eps / 10, steps=20, **options)
        left[name] = accuracy(trained_deeplab, made)
    print(f"PSPNet to DeepLab: random signs {noise:.2f}, {left}")
    assert max(left.values()) < noise - 5 * POINT


def test_a_universal_perturbation_fools_images_that_it_was_not_fitted_on(trained: Any) -> None:
    bound = universal.bind(eps=0.06, alpha=0.006, epochs=3)
    batches = list(zip(trained.train_images[:96].split(16), trained.train_masks[:96].split(16), strict=True))
    perturbation = bound.fit(trained.model, batches)
    made = bound(trained.model, trained.images, trained.masks, perturbation=perturbation)
    signs = torch.randint(2, perturbation.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = accuracy(trained, (trained.images + 0.06 * signs).clamp(0, 1))
    print(f"random signs {noise:.2f}, universal {accuracy(trained, made):.2f}")
    assert accuracy(trained, made) < noise - POINT


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
