"""Patches and hidden objects: nothing outside of the region changes, and inside the best possible is reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import segbench
from segbench.attacks.hide import hide
from segbench.attacks.patch import patch
from segbench.attacks.tools.budget import BudgetExceeded, ThreatModel, check_budget
from segbench.attacks.tools.patches import footprint, motion, scored_poses
from segbench.attacks.universal_patch import universal_patch

POSES = {"place": (0.2, 0.9), "shift": 0.1, "scale": 0.3, "rotation": 40.0, "brightness": 0.2}


def seeds(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


class WholeLinear(nn.Module):
    """Every pixel's logits are one linear function of all pixels, so that a patch moves the labels around it."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weight).flatten(1).sum(1) + self.bias
        pixels = torch.zeros_like(images[:, :1]) + score.view(-1, 1, 1, 1)
        return torch.cat([-pixels, pixels], 1)


@pytest.fixture
def grey() -> Tensor:
    return 0.3 + 0.4 * torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def whole_linear() -> WholeLinear:
    return WholeLinear(torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(1)), 0.0)


def test_a_patch_reaches_the_linear_optimum_and_touches_nothing_else(grey: Tensor, whole_linear: WholeLinear) -> None:
    masks = torch.stack([torch.zeros(12, 10), torch.ones(12, 10)]).long()
    made = patch(whole_linear, grey, masks, size=0.2, place=(0.5, 0.5), alpha=0.1, steps=15, generator=seeds(2))
    # side 5 in 12 x 10: rows 4 to 8 (3.5 rounds to 4), columns 2 to 6 (2.5 rounds to 2).
    best = grey.clone()
    for image, towards in enumerate((1, -1)):
        own = (towards * whole_linear.weight.detach()[:, 4:9, 2:7] > 0).float()
        best[image, :, 4:9, 2:7] = own
    torch.testing.assert_close(made, best, rtol=0, atol=1e-6)
    outside = torch.ones(12, 10, dtype=torch.bool)
    outside[4:9, 2:7] = False
    assert torch.equal(made[..., outside], grey[..., outside])


def test_a_patch_that_counts_its_own_pixels_reaches_their_optimum(pixel_linear: Callable[..., Any]) -> None:
    images = 0.3 + 0.4 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    masks = torch.randint(2, (2, 8, 8), generator=torch.Generator().manual_seed(6))
    masks[:, 3, 3] = 255
    model = pixel_linear(height=8, width=8)
    options = {"size": 0.25, "alpha": 0.1, "steps": 20, "generator": seeds(2)}
    made = patch(model, images, masks, counted="all", **options)
    towards = torch.where(masks == 0, 1, -1)[:, None] * (model.weight[1] - model.weight[0]).detach()
    valid = (masks[:, None] != 255).expand_as(images)[..., 2:6, 2:6]
    assert torch.equal(made[..., 2:6, 2:6][valid], (towards > 0).float()[..., 2:6, 2:6][valid])
    # Without its own pixels nothing is left that a patch could change, and its colours stay where they started.
    other = patch(model, images, masks, counted="outside", **{**options, "generator": seeds(2)})
    assert not torch.equal(made, other)


def test_a_targeted_patch_moves_towards_its_target(grey: Tensor, whole_linear: WholeLinear) -> None:
    masks = torch.zeros(2, 12, 10, dtype=torch.long)
    away = patch(whole_linear, grey, masks, size=0.2, steps=15, alpha=0.1, generator=seeds(2))
    towards = patch(whole_linear, grey, masks, size=0.2, steps=15, alpha=0.1, target=1, generator=seeds(2))
    torch.testing.assert_close(away, towards, rtol=0, atol=1e-6)


def test_a_patch_that_moves_keeps_to_the_pose_that_its_checker_works_out(
    grey: Tensor, whole_linear: WholeLinear
) -> None:
    masks = torch.zeros(2, 12, 10, dtype=torch.long)
    bound = patch.bind(size=0.1, steps=3, samples=2, **POSES)
    generators = seeds(2)
    made = bound(whole_linear, grey, masks, generator=generators)
    for state in (generators, seeds(2)):  # before and after the attack has drawn from them
        allowed = bound.allowed(grey, masks, generator=state)
        assert allowed is not None
        check_budget(made, grey, bound.threat, allowed=allowed)
        changed = (made != grey).any(1)
        assert (changed <= allowed).all()
        assert changed.flatten(1).sum(1).min() >= 0.9 * allowed.flatten(1).sum(1).min()
    elsewhere = bound.allowed(grey, masks, generator=seeds(2, first=50))
    with pytest.raises(BudgetExceeded, match="changed outside of its patch region"):
        check_budget(made, grey, bound.threat, allowed=elsewhere)


def test_a_universal_patch_is_the_same_for_all_images(grey: Tensor, whole_linear: WholeLinear) -> None:
    masks = torch.zeros(2, 12, 10, dtype=torch.long)
    bound = universal_patch.bind(size=0.2, place=(0.5, 0.5), epochs=20, alpha=0.1)
    colours = bound.fit(whole_linear, [(grey, masks)])
    best = (whole_linear.weight.detach()[:, 4:9, 2:7] > 0).float()
    assert torch.equal(colours, best)
    made = bound(whole_linear, grey, masks, generator=seeds(2), perturbation=colours)
    torch.testing.assert_close(made[..., 4:9, 2:7], best.expand(2, -1, -1, -1), rtol=0, atol=1e-6)
    moving = universal_patch.bind(size=0.2)
    allowed = moving.allowed(grey, masks, generator=seeds(2))
    assert allowed is not None
    pasted = moving(whole_linear, grey, masks, generator=seeds(2), perturbation=colours)
    assert torch.equal((pasted != grey).any(1), allowed)
    assert allowed.flatten(1).sum(1).tolist() == [25, 25]
    with pytest.raises(ValueError, match="needs its patch"):
        universal_patch(whole_linear, grey, masks)


def test_expectation_over_places_reaches_what_is_best_on_average(grey: Tensor) -> None:
    across = torch.linspace(-1, 1, 10).expand(3, 12, 10)
    model = WholeLinear(across.clone() + 0.4, -9.0)
    masks = torch.zeros(8, 12, 10, dtype=torch.long)
    images = grey[:1].expand(8, -1, -1, -1)
    made = patch(model, images, masks, size=0.1, place=None, steps=30, samples=4, alpha=0.1, generator=seeds(8))
    # The mean of the weights is positive, so that over all places white is best.
    allowed = patch.bind(size=0.1, place=None).allowed(images, masks, generator=seeds(8))
    assert allowed is not None
    colours = made.movedim(1, -1)[allowed]
    assert float(colours.mean()) > 0.9


@pytest.mark.parametrize("region", ["all", "object", "surroundings"])
def test_hide_reaches_the_best_within_its_region(region: str, pixel_linear: Callable[..., Any]) -> None:
    """With logits of the own pixel only, objects change by their own pixels: all of those that the ball allows."""
    images = 0.3 + 0.4 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    model = pixel_linear(num_classes=3, height=8, width=8)
    masks = torch.zeros(2, 8, 8, dtype=torch.long)
    masks[:, 2:5, 3:6] = 1
    masks[:, :, 7] = 2
    masks[:, 0, 0] = 255
    bound = hide.bind(source=1, region=region, eps=0.1, alpha=0.02, steps=12, omega=1.0)
    made = bound(model, images, masks)
    allowed = bound.allowed(images, masks)
    assert allowed is not None
    check_budget(made, images, bound.threat, allowed=allowed)
    own = torch.zeros(8, 8, dtype=torch.bool)
    own[2:5, 3:6] = True
    # Only pixels of objects have a say where omega is 1.
    assert torch.equal(made[..., ~own], images[..., ~own])
    if region == "surroundings":
        assert torch.equal(made, images)
        return
    left = (model(made).argmax(1) == 1) & own
    best = images - 0.1 * (model.weight[1] - model.weight[0]).detach().sign()
    worse = (model(best)[:, 1] > model(best)[:, 0]) & own
    # What no change within the ball turns to class 0 is all that may still be predicted as the object.
    assert (left <= worse).all()


def test_hide_leaves_an_image_without_the_object_alone(task: Any) -> None:
    masks = task.masks.clone()
    masks[1] = masks[1].where(masks[1] != 2, 0)
    made = hide(task.model, task.images, masks, source=2, steps=4)
    assert torch.equal(made[1], task.images[1])
    assert not torch.equal(made[0], task.images[0])


def test_more_of_the_rest_stays_right_with_less_weight_on_objects(task: Any) -> None:
    def rest(omega: float) -> float:
        made = hide(task.model, task.images, task.masks, source=2, eps=0.1, alpha=0.02, steps=8, omega=omega)
        task.model.eval()
        with torch.no_grad():
            right = task.model(made).argmax(1) == task.masks
        return float(right[(task.masks != 2) & (task.masks != 255)].float().mean())

    assert rest(0.5) > rest(1.0)


def test_a_region_is_checked_like_any_budget(grey: Tensor) -> None:
    threat = ThreatModel(None, None, "gradients", "patch", 0.1)
    allowed = torch.zeros(2, 12, 10, dtype=torch.bool)
    allowed[:, :3, :3] = True
    made = grey.clone()
    made[:, :, :3, :3] = 1.0
    check_budget(made, grey, threat, allowed=allowed)
    made[1, 0, 5, 5] += 1e-7
    with pytest.raises(BudgetExceeded, match="1 pixels of an image changed outside of its patch region"):
        check_budget(made, grey, threat, allowed=allowed)
    with pytest.raises(ValueError, match="pass the pixels that may change"):
        check_budget(grey, grey, threat)


def test_a_footprint_is_the_square_that_its_options_say(grey: Tensor) -> None:
    options = {"size": 0.2, "place": (1.0, 0.0), "shift": 0.0, "scale": 0.0, "rotation": 0.0, "brightness": 0.0}
    own = footprint(scored_poses(motion(options), grey, seeds(2)), grey)
    expected = torch.zeros(12, 10, dtype=torch.bool)
    expected[7:, :5] = True
    assert torch.equal(own, expected.expand(2, -1, -1))


def test_a_patch_can_be_made_from_python(grey: Tensor, whole_linear: WholeLinear) -> None:
    masks = torch.zeros(2, 12, 10, dtype=torch.uint8)
    for given in (None, torch.Generator().manual_seed(4)):
        made = segbench.attack(whole_linear, grey, masks, "patch(size=0.1, place=null, steps=2)", generator=given)
        assert (made != grey).any(1).flatten(1).sum(1).tolist() == [9, 9]
    labels = segbench.predict(whole_linear, grey[0], masks=masks[0], attack="hide(source=0, steps=2)")
    assert labels.shape == (12, 10)
