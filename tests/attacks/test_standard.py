from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.attacks import members
from segbench.attacks import standard as module
from segbench.attacks.apgd import apgd
from segbench.attacks.cw import cw
from segbench.attacks.padam import padam
from segbench.attacks.square import square
from segbench.attacks.tools import gradient_check
from segbench.attacks.tools.ascent import random_start
from segbench.attacks.tools.budget import check_budget
from segbench.attacks.tools.descent import iou_harm, margin_descent, pixel_harm, soft_harm, undirected
from segbench.attacks.tools.keeper import Keeper
from segbench.attacks.tools.losses import right_pixels, soft_margin
from segbench.attacks.tools.passes import count_passes

VOID = 255
EPS = 0.03
PIXELS = torch.tensor([4, 2, 2, 1])
standard = partial(module.standard, class_pixels=PIXELS)
standard_parts = partial(module.standard.parts, class_pixels=PIXELS)


class Shattered(nn.Module):
    """Predicts nearly as the plain network does, with gradients that lead nowhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images + 0.004 * torch.sin(2000 * images))
        return logits


class Squashed(nn.Module):
    """Logits that hardly tell pixels apart which the plain network is sure of."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits.tanh()


class Detached(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits.detach()


def aimed(model: nn.Module, images: Tensor, masks: Tensor, eps: float, generators: Any = ()) -> members.Target:
    """What members attack, with a keeper that has seen the clean images."""
    with torch.no_grad():
        logits = model(images)
    harm = iou_harm(PIXELS, torch.full(logits.shape[1:2], 0.25))
    keeper = Keeper(images, logits, masks, harm, ignore_index=VOID)
    return members.Target(model, images, masks, eps, VOID, generators, keeper, PIXELS)


def left(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    with torch.no_grad():
        return right_pixels(model.eval()(images), masks)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The rounds of the members: name and passes."""
    found: list[tuple[str, int]] = []
    note = module._Account.note

    def record(account: Any, name: str, length: int, gain: float) -> None:
        found.append((name, length))
        note(account, name, length, gain)

    monkeypatch.setattr(module._Account, "note", record)
    return found


@pytest.mark.parametrize("passes", [1, 2, 3, 9, 31, 230])
def test_no_image_takes_more_passes_than_it_may(passes: int, task: Any) -> None:
    with count_passes(task.model) as counted:
        parts = standard_parts(
            task.model, task.images[:1], task.masks[:1], eps=0.004, passes=passes, class_pixels=PIXELS
        )
    assert counted.forward <= passes
    for made in parts.values():
        check_budget(made, task.images[:1], module.standard.bind(eps=0.004).threat)


def test_an_image_takes_all_its_passes_while_something_still_gains(task: Any, rounds: list[tuple[str, int]]) -> None:
    with count_passes(task.model) as counted:
        standard_parts(task.model, task.images[:1], task.masks[:1], eps=0.01, passes=120)
    assert counted.forward == 120 or {name for name, _ in rounds} == {member.name for member in members.MEMBERS}


def test_every_member_shows_its_images_at_most_once_a_pass(task: Any) -> None:
    rows = torch.tensor([2, 0])
    for member in (*members.MEMBERS, members.SCORE_BASED):
        generators = [torch.Generator().manual_seed(i) for i in range(3)]
        target = aimed(task.model.eval(), task.images, task.masks, EPS, generators)
        keeper = target.keeper
        with module.watching(task.model, task.images, norm="linf", eps=EPS, see=keeper.see):
            member.run(target, rows, 12)
        assert keeper.passes[1] == 1, member.name
        assert 1 < keeper.passes[[0, 2]].max() <= 13, member.name


def test_the_parts_are_the_best_by_pixels_by_classes_and_of_the_image(task: Any) -> None:
    parts = standard_parts(task.model, task.images, task.masks, eps=EPS, passes=40)
    task.model.eval()
    seen = {name: aimed(task.model, made, task.masks, EPS).keeper for name, made in parts.items()}
    for own in seen.values():
        assert (seen["pixels"].right <= own.right).all()
        assert (seen["classes"].harm >= own.harm).all()
        assert (seen["image"].iou <= own.iou).all()


def test_it_is_not_above_a_descent_of_its_first_share_from_the_same_start(task: Any) -> None:
    task.model.eval()
    eps, passes = 0.01, 60
    generators = [[torch.Generator().manual_seed(i) for i in range(3)] for _ in range(2)]
    start = random_start(task.images, task.masks, generators[0], eps=eps, norm="linf", ignore_index=VOID)
    options = {"first": 2.0, "widths": members.WIDTHS, "masked": True, "steps": round(0.25 * passes) - 1}
    harm = aimed(task.model, task.images, task.masks, eps).harm("called", torch.arange(3))
    alone = margin_descent(task.model, task.images, task.masks, start, harm, eps=eps, **options)
    parts = standard_parts(
        task.model, task.images, task.masks, eps=eps, passes=passes, generator=generators[1], class_pixels=PIXELS
    )
    ours, theirs = (aimed(task.model, made, task.masks, eps).keeper for made in (parts["classes"], alone))
    assert (ours.harm >= theirs.harm).all()


@pytest.mark.parametrize(("attack", "allowance"), [(apgd, 0), (padam, 0), (cw, 0.01)])
def test_it_is_not_above_a_member_of_the_same_passes(attack: Any, allowance: float, task: Any) -> None:
    # C&W spends all its passes on what the standard attack spends a part of them on.
    ours = left(task.model, standard(task.model, task.images, task.masks, eps=0.01, passes=60), task.masks).sum()
    theirs = left(task.model, attack(task.model, task.images, task.masks, eps=0.01, steps=59), task.masks).sum()
    assert ours <= (1 + allowance) * theirs


def test_images_that_look_alike_are_attacked_as_if_they_were_alone(task: Any) -> None:
    model = task.model.eval().double()
    images = task.images.double()
    images = torch.cat([images[:1], images[:1], (images[:1] + 0.01).clamp(0, 1), images[1:2]])
    masks = task.masks[[0, 1, 0, 1]]
    options = {"eps": 0.02, "passes": 48}
    seeds = [[torch.Generator().manual_seed(i) for i in range(4)] for _ in range(2)]
    together = standard_parts(model, images, masks, **options, generator=seeds[0])
    for i in range(4):
        alone = standard_parts(model, images[[i]], masks[[i]], **options, generator=[seeds[1][i]])
        for name, made in alone.items():
            # Kernels may round differently at another batch size; see the contract of attacks.
            assert ((together[name][[i]] - made).abs() > 1e-9).double().mean() <= 0.001


def test_a_network_of_two_classes_is_spared_members_that_need_three(
    pixel_linear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pixel_linear()
    images = torch.full((1, 3, 6, 5), 0.5)
    masks = model(images).argmax(1)
    last_first = tuple(reversed([replace(member, prior=1.0) for member in members.MEMBERS]))
    monkeypatch.setattr(module, "MEMBERS", last_first)
    made = standard(model, images, masks, eps=0.05, passes=100, class_pixels=PIXELS[:2])
    assert (left(model, made, masks) < left(model, images, masks)).all()


def test_gradients_that_lead_nowhere_hand_over_to_square(task: Any, rounds: list[tuple[str, int]]) -> None:
    images, masks = task.images[:2], task.masks[:2]
    network = Shattered(task.model)
    made = standard(network, images, masks, eps=0.01, passes=220)
    assert {name for name, _ in rounds} == {"square"}
    assert (left(network, made, masks) < left(network, images, masks)).all()


def test_without_any_gradient_all_passes_are_squares(task: Any, rounds: list[tuple[str, int]]) -> None:
    network = Detached(task.model)
    made = standard(network, task.images, task.masks, eps=EPS, passes=30)
    assert set(rounds) == {("square", 29)}
    assert (left(network, made, task.masks) < left(network, task.images, task.masks)).all()


def test_an_honest_gradient_is_trusted(task: Any, rounds: list[tuple[str, int]]) -> None:
    standard(task.model, task.images[:2], task.masks[:2], eps=0.002, passes=220)
    assert rounds
    assert "square" not in {name for name, _ in rounds}


def test_saturated_logits_still_lead_margins(
    task: Any, rounds: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_check, "SATURATED", 0.0)
    images, masks, eps = task.images[:1], task.masks[:1], 0.004
    network = Squashed(task.model.eval())
    check = gradient_check.check_gradient(network, images, masks)
    assert [name for name, found in check.doubts.items() if found.any()] == ["saturated-logits"]
    ours = left(network, standard(network, images, masks, eps=eps, passes=220), masks)
    assert rounds
    assert "square" not in {name for name, _ in rounds}
    assert (ours < left(network, square(network, images, masks, eps=eps, queries=220), masks)).all()


def test_a_descent_fools_all_that_can_be_fooled(pixel_linear: Callable[..., Any]) -> None:
    model = pixel_linear()
    images = 0.3 + 0.4 * torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        masks = model(images).argmax(1)
    weight = (model.weight[0] - model.weight[1]).detach()
    margins = (model(images)[:, 0] - model(images)[:, 1]).abs().detach()
    least = margins / weight.abs().sum(0)
    eps = float(least.flatten().quantile(0.6))
    target = aimed(model, images, masks, eps)
    keeper, harm = target.keeper, pixel_harm(2).expand(2, 2, 2)
    with module.watching(model, images, norm="linf", eps=eps, see=keeper.see):
        margin_descent(model, images, masks, images, harm, eps=eps, steps=60, first=2.0, widths=(3.0, 0.003))
    # Pixels are independent here, so that exactly those whose least change is above eps stay right.
    assert torch.equal(keeper.right, (least > eps).flatten(1).sum(1))


def test_the_harm_is_the_slope_of_the_mean_iou_of_a_set() -> None:
    # Three classes of which each has an IoU of 0.5 in a set: the change of mIoU when one pixel is called another.
    true, right = np.array([600.0, 240.0, 60.0]), np.array([400.0, 160.0, 40.0])
    called = 2 * right - true + right  # a union of twice the intersection
    union = true + called - right
    assert (right / union == 0.5).all()

    def miou(label: int, call: int) -> float:
        one = np.eye(3)
        inter = right + one[label] * (label == call)
        return float((inter / (true + called + one[call] - inter)).mean())

    nothing = float((right / union).mean())
    harm = iou_harm(torch.tensor(union), torch.full((3,), 0.5))
    # Moved by one pixel, an IoU of a class with 80 pixels in its union changes its slope by about a percent.
    slope = np.array([[nothing - miou(label, call) for call in range(3)] for label in range(3)])
    assert np.allclose(harm.numpy() / harm[2, 2].abs().item(), slope / abs(slope[2, 2]), rtol=0.02)
    best = undirected(harm)
    assert torch.equal(best, best.diagonal().diag())
    assert best[0, 0] == harm[0, 0] - harm[0, 2]


def test_a_class_without_training_pixels_counts_as_one_of_mean_size() -> None:
    harm = iou_harm(torch.tensor([6, 2]), torch.full((3,), 0.5))
    assert torch.allclose(harm, iou_harm(torch.tensor([18, 6, 8]), torch.full((3,), 0.5)))


def test_the_softened_harm_counts_pixels_when_it_is_narrow() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    masks = torch.randint(4, (2, 5, 6), generator=generator)
    masks[0, 0] = VOID
    harm = torch.randn(2, 4, 4, generator=generator).double()
    found = soft_harm(logits, masks, harm=harm, width=1e-7)
    for image, row, column in np.ndindex(*masks.shape):
        label, called = int(masks[image, row, column]), int(logits[image, :, row, column].argmax())
        wanted = 0.0 if label == VOID else float(2 * harm[image, label, called] - harm[image, label].sum())
        assert float(found[image, row, column]) == pytest.approx(wanted, abs=1e-3)


def test_the_masked_harm_is_that_of_right_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    masks = torch.randint(4, (2, 5, 6), generator=generator)
    masks[0, 0] = VOID
    options = {"harm": torch.randn(2, 4, 4, generator=generator).double(), "width": 0.7}
    right = logits.argmax(1) == masks
    wanted = torch.where(right, soft_harm(logits, masks, **options), 0)
    assert torch.equal(soft_harm(logits, masks, masked=True, **options), wanted)


def test_the_softened_count_of_right_pixels_is_the_soft_margin() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    masks = torch.randint(4, (2, 5, 6), generator=generator)
    masks[0, 0] = VOID
    ours = soft_harm(logits, masks, harm=pixel_harm(4).expand(2, 4, 4), width=0.7)
    assert torch.allclose(ours.float(), soft_margin(logits, masks, width=0.7), atol=1e-6)
