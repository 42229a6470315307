from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks import apgd as module
from segbench.attacks.apgd import apgd, auto_pgd, checkpoints, halve
from segbench.attacks.sea import sea, stage_steps
from segbench.attacks.tools.losses import cross_entropy, image_mean
from segbench.attacks.tools.passes import count_passes

VOID = 255


def mean_loss(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    with torch.no_grad():
        return image_mean(cross_entropy(model(images), masks), masks)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (50, [11, 21, 30, 38, 45]),
        (30, [6, 11, 15, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]),
        (10, [2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (1, [1]),
    ],
)
def test_checkpoints_are_those_of_the_paper_rounded_as_in_the_released_code(steps: int, expected: list[int]) -> None:
    assert checkpoints(steps) == frozenset(expected)


def test_a_step_size_is_halved_by_either_condition_of_the_paper() -> None:
    rises = torch.tensor([14.0, 15.0, 20.0, 20.0, 20.0])
    halved = torch.tensor([False, False, False, True, False])
    checked = torch.tensor([1.0, 1.0, 2.0, 2.0, 1.9])
    best = torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0])
    # 14 of 20 rising steps are too few; 20 of 20 without a new best are, unless it was halved the last time.
    assert halve(rises, 20, halved, checked, best).tolist() == [True, False, True, False, False]


class Scripted(nn.Module):
    """Gives images a cross-entropy by a script, one value a forward pass."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses = losses
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        loss = torch.tensor(self.losses[len(self.seen)])
        self.seen.append(images.detach().clone())
        other = torch.log(torch.expm1(loss)) + 0 * images.sum((1, 2, 3))
        # Upwards is along +1, so that the iterates tell the step sizes.
        zero = images.sum((1, 2, 3)) * -1e-6
        zero = zero - zero.detach()
        return torch.stack([zero, other], 1)[:, :, None, None].expand(-1, -1, *images.shape[2:])


def test_step_sizes_of_a_hand_made_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    # 10 steps: checkpoints at 2 and at every later step. Steps 1 to 4 rise: not halved. Step 5 falls: halved. Step 6
    # rises: not halved. Steps 7 and 8 fall: halved twice. Steps 9 and 10 rise.
    losses = [1.0, 1.1, 1.2, 1.3, 1.4, 1.2, 1.5, 1.4, 1.3, 1.6, 1.7]
    sizes: list[float] = []
    check = module._check

    def record(state: Any, window: int) -> Any:
        state = check(state, window)
        sizes.append(float(state.size))
        return state

    monkeypatch.setattr(module, "_check", record)
    images = torch.full((1, 3, 2, 2), 0.5)
    masks = torch.zeros(1, 2, 2, dtype=torch.long)
    model = Scripted(losses)
    made = auto_pgd(model, images, masks, images, cross_entropy, eps=0.1, steps=10, keep="loss")
    assert sizes == pytest.approx([0.2, 0.2, 0.2, 0.1, 0.1, 0.05, 0.025, 0.025, 0.025])
    assert torch.equal(made, model.seen[10])
    # After a halving the next step starts from the best iterate: after step 5 that is iterate 4.
    step, momentum = 0.1, 0.25 * (model.seen[4] - model.seen[4])
    ahead = (model.seen[4] + step).clamp(0.4, 0.6)
    expected = model.seen[4] + 0.75 * (ahead - model.seen[4]) + 0.25 * (model.seen[4] - model.seen[4]) + momentum
    torch.testing.assert_close(model.seen[6], expected.clamp(0.4, 0.6))


def test_first_steps_follow_the_momentum_rule(pixel_linear: Any) -> None:
    model = pixel_linear(num_classes=3)
    images = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    masks = model(images).argmax(1)
    eps = 0.01
    one = auto_pgd(model, images, masks, images, cross_entropy, eps=eps, steps=1, keep="loss")
    gradient = torch.autograd.grad(
        image_mean(cross_entropy(model(images.requires_grad_()), masks), masks).sum(), images
    )[0]
    images = images.detach()
    torch.testing.assert_close(one, images + eps * gradient.sign())


def test_it_is_never_weaker_than_where_it_started(task: Any) -> None:
    model = task.model.eval()
    for steps in (1, 3, 10):
        made = apgd(model, task.images, task.masks, steps=steps, keep="loss")
        assert (mean_loss(model, made, task.masks) >= mean_loss(model, task.images, task.masks)).all()
    fewer, more = (apgd(model, task.images, task.masks, steps=n, keep="loss") for n in (10, 40))
    assert (mean_loss(model, more, task.masks) >= mean_loss(model, fewer, task.masks)).all()


def test_keeping_the_loss_and_keeping_the_accuracy_each_keep_the_best_of_it(task: Any) -> None:
    model = task.model.eval()

    def right(images: Tensor) -> Tensor:
        return ((model(images).argmax(1) == task.masks) & (task.masks != VOID)).flatten(1).sum(1)

    by_loss, by_accuracy = (
        apgd(model, task.images, task.masks, steps=20, eps=0.01, keep=keep) for keep in ("loss", "accuracy")
    )
    assert (mean_loss(model, by_loss, task.masks) >= mean_loss(model, by_accuracy, task.masks)).all()
    assert (right(by_accuracy) <= right(by_loss)).all()


def test_an_image_without_a_right_pixel_costs_nothing_more(task: Any) -> None:
    model = task.model.eval()
    masks = task.masks.clone()
    masks[0] = (model(task.images[:1]).argmax(1)[0] + 1) % 4
    with count_passes(model) as passes:
        auto_pgd(model, task.images, masks, task.images, cross_entropy, eps=0.001, steps=5)
    assert passes.forward == 3 + 5 * 2
    assert passes.backward == 3 + 4 * 2


def test_sea_spends_its_steps_in_three_stages_per_loss(task: Any) -> None:
    assert stage_steps(300) == [90, 90, 120]
    assert stage_steps(100) == [30, 30, 40]
    assert sum(stage_steps(7)) == 7
    with count_passes(task.model) as passes:
        sea.parts(task.model, task.images, task.masks, eps=0.001, steps=10, class_pixels=torch.ones(4))
    # A stage evaluates its start and every step; three losses of three stages.
    assert passes.forward == 3 * (10 + 3) * 3
    assert passes.backward == 3 * 10 * 3


def test_sea_shrinks_its_radius(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = auto_pgd

    def record(*args: Any, **kwargs: Any) -> Tensor:
        seen.append((kwargs["eps"], kwargs["steps"], float((args[3] - args[1]).abs().max())))
        return original(*args, **kwargs)

    monkeypatch.setattr("segbench.attacks.sea.auto_pgd", record)
    parts = sea.parts(task.model, task.images, task.masks, eps=0.02, steps=10, class_pixels=torch.ones(4))
    assert list(parts) == ["balanced-masked-ce", "masked-ce", "js"]
    assert [(eps, steps) for eps, steps, _ in seen] == [(0.04, 3), (0.03, 3), (0.02, 4)] * 3
    assert all(used <= eps + 1e-6 for eps, _, used in seen)
    assert seen[0][2] > 0.035
