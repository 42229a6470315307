"""On a network whose logits are linear in each pixel, the best perturbation is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.almaprox import almaprox
from segbench.attacks.apgd import apgd
from segbench.attacks.bim import bim
from segbench.attacks.clean import clean
from segbench.attacks.cw import cw
from segbench.attacks.deepfool import deepfool
from segbench.attacks.fgsm import fgsm
from segbench.attacks.mifgsm import mifgsm
from segbench.attacks.pgd import pgd
from segbench.attacks.square import square
from segbench.attacks.tools.budget import distance

EPS = 0.05
Linear = Callable[..., nn.Module]


@pytest.fixture
def grey() -> Tensor:
    """Images far from 0 and 1, so that the box binds nowhere."""
    return 0.3 + 0.4 * torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def masks() -> Tensor:
    masks = torch.randint(2, (2, 6, 5), generator=torch.Generator().manual_seed(4))
    masks[:, 0] = 255
    return masks


def direction(model: Any, masks: Tensor) -> Tensor:
    """Input gradient of the sum over valid pixels of (other logit - true logit), written out."""
    difference = model.weight[1] - model.weight[0]
    sign = torch.where(masks == 255, 0, torch.where(masks == 0, 1, -1))
    return (difference[None] * sign[:, None]).detach()


def gain(images: Tensor, adversarial: Tensor, along: Tensor) -> Tensor:
    return ((adversarial - images) * along).flatten(1).sum(1)


def test_clean_is_the_image_itself(pixel_linear: Linear, grey: Tensor, masks: Tensor) -> None:
    assert torch.equal(clean(pixel_linear(), grey, masks), grey)


def test_fgsm_reaches_the_linf_optimum_exactly(pixel_linear: Linear, grey: Tensor, masks: Tensor) -> None:
    model = pixel_linear()
    best = grey + EPS * direction(model, masks).sign()
    assert torch.allclose(fgsm(model, grey, masks, eps=EPS), best, atol=1e-7)


ITERATIVE = {
    "bim": lambda *args, norm: bim(*args, eps=EPS, alpha=EPS / 4, steps=10, norm=norm),
    "pgd": lambda *args, norm: pgd(*args, eps=EPS, alpha=EPS / 4, steps=20, restarts=2, norm=norm),
    "mifgsm": lambda *args, norm: mifgsm(*args, eps=EPS, alpha=EPS / 4, steps=10, norm=norm),
    "apgd": lambda *args, norm: apgd(*args, eps=EPS, steps=40, keep="loss", norm=norm),
}


@pytest.mark.parametrize("name", ITERATIVE)
def test_iterative_attacks_reach_the_linf_optimum(name: str, pixel_linear: Linear, grey: Tensor, masks: Tensor) -> None:
    model = pixel_linear()
    along = direction(model, masks)
    if name == "apgd":
        # Its step size follows the cross-entropy, which is linear where the network is certainly wrong.
        model = biased(model, masks, -200.0)
    best = EPS * along.abs().flatten(1).sum(1)
    made = ITERATIVE[name](model, grey, masks, norm="linf")
    assert (gain(grey, made, along) >= 0.99 * best).all()
    assert (gain(grey, made, along) <= 1.0001 * best).all()


@pytest.mark.parametrize("name", ["bim", "pgd", "apgd"])
@pytest.mark.parametrize("norm", ["l2", "rms"])
def test_iterative_attacks_reach_the_l2_optimum(
    name: str, norm: str, pixel_linear: Linear, grey: Tensor, masks: Tensor
) -> None:
    # Far from the boundary the softmax is certain and the cross-entropy is linear in the margins: its gradient is
    # the direction itself, so that the best step of an L2 ball is along it.
    model = biased(pixel_linear(), masks, -200.0)
    along = direction(pixel_linear(), masks)
    radius = EPS if norm == "l2" else EPS * grey[0].numel() ** 0.5
    best = radius * along.flatten(1).norm(dim=1)
    made = ITERATIVE[name](model, grey, masks, norm=norm)
    assert (gain(grey, made, along) >= 0.99 * best).all()
    assert (distance(made, grey, norm) <= EPS + 1e-6).all()


def biased(model: nn.Module, masks: Tensor, by: float = 200.0) -> nn.Module:
    """The same network, with `by` added to the true class of every valid pixel."""

    class Biased(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            labels = masks.where(masks != 255, 0)
            bonus = torch.nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2) * by
            logits: Tensor = model(images) + bonus[: len(images)]
            return logits

    return Biased()


def test_square_approaches_the_linf_optimum(pixel_linear: Linear, grey: Tensor, masks: Tensor) -> None:
    model = biased(pixel_linear(), masks)
    along = direction(pixel_linear(), masks)
    best = EPS * along.abs().flatten(1).sum(1)
    few, many = (gain(grey, square(model, grey, masks, eps=EPS, queries=n), along) for n in (20, 1500))
    assert (many > few).all()
    assert (many >= 0.9 * best).all()


def right_labels(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        labels: Tensor = model(images).argmax(1)
    labels[:, 0] = 255
    return labels


def least_linf(model: Any, images: Tensor, labels: Tensor, share: float = 1.0) -> Tensor:
    """Per image the least L_inf change that fools a share of the valid pixels: a pixel's margin over its slope's L1."""
    logits = model(images).detach()
    true = labels.where(labels != 255, 0)
    weight = model.weight.detach()[None].expand(len(images), *model.weight.shape)
    chosen = weight.gather(1, true[:, None, None].expand(-1, 1, *weight.shape[2:]))[:, 0]
    ratios = []
    for other in range(logits.shape[1]):
        margins = logits.gather(1, true[:, None])[:, 0] - logits[:, other]
        ratios.append(torch.where(true == other, torch.inf, margins / (chosen - weight[:, other]).abs().sum(1)))
    per_pixel = torch.stack(ratios).amin(0)
    ordered = torch.where(labels == 255, torch.inf, per_pixel).flatten(1).sort(1).values
    needed = ((labels != 255).flatten(1).sum(1) * share).ceil().long()
    return ordered.gather(1, needed[:, None] - 1)[:, 0]


def test_deepfool_stops_at_the_least_change_that_fools(pixel_linear: Linear, grey: Tensor) -> None:
    model = pixel_linear()
    labels = right_labels(model, grey)
    made = deepfool(model, grey, labels, eps=1.0, steps=200)
    inside = (made > 0).flatten(1).all(1) & (made < 1).flatten(1).all(1)
    assert inside.all(), "the box must not bind here"
    with torch.no_grad():
        assert not ((model(made).argmax(1) == labels) & (labels != 255)).any()
    used, least = distance(made, grey, "linf"), least_linf(model, grey, labels).double()
    assert (used >= least * 0.9999).all()
    assert (used <= least * 1.0201).all()


def test_almaprox_never_undercuts_the_least_change_and_comes_near_it(pixel_linear: Linear) -> None:
    model = pixel_linear(num_classes=4, height=12, width=12, noise=0.02)
    images = 0.49 + 0.02 * torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    labels = right_labels(model, images)
    made = almaprox(model, images, labels, steps=500, share=0.9)
    valid = labels != 255
    with torch.no_grad():
        wrong = ((model(made).argmax(1) != labels) & valid).flatten(1).sum(1) / valid.flatten(1).sum(1)
    assert (wrong >= 0.9).all()
    used, least = distance(made, images, "linf"), least_linf(model, images, labels, share=0.9).double()
    assert (used >= least * 0.9999).all()
    assert (used <= least * 1.75).all(), used / least


def test_cw_fools_all_that_can_be_fooled(pixel_linear: Linear, grey: Tensor) -> None:
    model = pixel_linear()
    labels = right_labels(model, grey)
    least = float(least_linf(model, grey, labels).max())
    for eps, all_fooled in ((1.01 * least, True), (0.9 * least, False)):
        made = cw(model, grey, labels, eps=eps, alpha=eps / 4, steps=40)
        with torch.no_grad():
            right = ((model(made).argmax(1) == labels) & (labels != 255)).flatten(1).any(1)
        assert right.any().item() is not all_fooled
