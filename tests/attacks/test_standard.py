from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks import members
from segbench.attacks import standard as module
from segbench.attacks.apgd import apgd
from segbench.attacks.cw import cw
from segbench.attacks.padam import padam
from segbench.attacks.standard import standard
from segbench.attacks.tools.ascent import random_start
from segbench.attacks.tools.budget import check_budget
from segbench.attacks.tools.descent import class_weights, margin_descent
from segbench.attacks.tools.keeper import image_iou
from segbench.attacks.tools.losses import right_pixels
from segbench.attacks.tools.passes import count_passes

VOID = 255
EPS = 0.03


class Shattered(nn.Module):
    """Predicts nearly as the plain network does, with gradients that lead nowhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images + 0.004 * torch.sin(2000 * images))
        return logits


class Detached(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits.detach()


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
        parts = standard.parts(task.model, task.images[:1], task.masks[:1], eps=0.004, passes=passes)
    assert counted.forward <= passes
    for made in parts.values():
        check_budget(made, task.images[:1], standard.bind(eps=0.004).threat)


def test_an_image_takes_all_its_passes_while_something_still_gains(task: Any, rounds: list[tuple[str, int]]) -> None:
    with count_passes(task.model) as counted:
        standard.parts(task.model, task.images[:1], task.masks[:1], eps=0.01, passes=120)
    assert counted.forward == 120 or {name for name, _ in rounds} == {member.name for member in members.MEMBERS}


def test_every_member_shows_its_images_at_most_once_a_pass(task: Any) -> None:
    rows = torch.tensor([2, 0])
    for member in (*members.MEMBERS, members.SCORE_BASED):
        generators = [torch.Generator().manual_seed(i) for i in range(3)]
        keeper = module.Keeper(task.images, task.masks, ignore_index=VOID)
        target = members.Target(task.model.eval(), task.images, task.masks, EPS, VOID, generators, keeper)
        with module.watching(task.model, task.images, norm="linf", eps=EPS, see=keeper.see):
            member.run(target, rows, 12)
        assert keeper.passes[1] == 0, member.name
        assert 0 < keeper.passes[[0, 2]].max() <= 12, member.name


def test_the_parts_are_the_best_by_pixels_and_by_classes(task: Any) -> None:
    parts = standard.parts(task.model, task.images, task.masks, eps=EPS, passes=40)
    by_pixels, by_classes = (left(task.model, parts[name], task.masks) for name in ("pixels", "classes"))
    assert (by_pixels <= by_classes).all()
    iou = [image_iou(task.model(parts[name]), task.masks) for name in ("pixels", "classes")]
    assert (iou[1] <= iou[0]).all()


def test_it_is_not_above_a_descent_of_its_first_share_from_the_same_start(task: Any) -> None:
    task.model.eval()
    eps, passes = 0.01, 60
    generators = [[torch.Generator().manual_seed(i) for i in range(3)] for _ in range(2)]
    start = random_start(task.images, task.masks, generators[0], eps=eps, norm="linf", ignore_index=VOID)
    options = {"first": 2.0, "widths": members.WIDTHS, "steps": round(0.3 * passes) - 1}
    alone = margin_descent(task.model, task.images, task.masks, start, eps=eps, **options)
    parts = standard.parts(task.model, task.images, task.masks, eps=eps, passes=passes, generator=generators[1])
    assert (left(task.model, parts["pixels"], task.masks) <= left(task.model, alone, task.masks)).all()


@pytest.mark.parametrize(("attack", "allowance"), [(apgd, 0), (padam, 0), (cw, 0.01)])
def test_it_is_not_above_a_member_of_the_same_passes(attack: Any, allowance: float, task: Any) -> None:
    # C&W spends all its passes on what the standard attack spends a third of them on.
    ours = left(task.model, standard(task.model, task.images, task.masks, eps=0.01, passes=60), task.masks).sum()
    theirs = left(task.model, attack(task.model, task.images, task.masks, eps=0.01, steps=59), task.masks).sum()
    assert ours <= (1 + allowance) * theirs


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


def test_a_descent_fools_all_that_can_be_fooled(pixel_linear: Callable[..., Any]) -> None:
    model = pixel_linear()
    images = 0.3 + 0.4 * torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        masks = model(images).argmax(1)
    weight = (model.weight[0] - model.weight[1]).detach()
    margins = (model(images)[:, 0] - model(images)[:, 1]).abs().detach()
    least = margins / weight.abs().sum(0)
    eps = float(least.flatten().quantile(0.6))
    keeper = module.Keeper(images, masks, ignore_index=VOID)
    with module.watching(model, images, norm="linf", eps=eps, see=keeper.see):
        margin_descent(model, images, masks, images, eps=eps, steps=60, first=2.0, widths=(3.0, 0.003))
    # Pixels are independent here, so that exactly those whose least change is above eps stay right.
    assert torch.equal(keeper.right, (least > eps).flatten(1).sum(1))


def test_small_classes_weigh_as_their_pixels_say() -> None:
    masks = torch.tensor([[[0, 0, 0, 0], [1, VOID, VOID, VOID]]])
    weights = class_weights(masks, 0.5)
    wanted = torch.tensor([0.5, 0.5, 0.5, 0.5, 1.0])
    assert torch.allclose(weights[masks != VOID], wanted / wanted.mean())
    assert (weights[masks == VOID] == 0).all()
    assert torch.equal(class_weights(masks, 0.0)[masks != VOID], torch.ones(5))
