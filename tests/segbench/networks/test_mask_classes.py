from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.components import specs
from segbench.networks.mask_classes import MaskClassifier, log_class_scores, resized, window_starts

DRAWN = torch.Generator().manual_seed(0)
CLASSES = torch.randn(2, 5, 4, generator=DRAWN) * 3
MASKS = torch.randn(2, 5, 6, 7, generator=DRAWN) * 3


def test_scores_are_the_sum_over_queries_as_a_slow_loop_gives_it() -> None:
    found = log_class_scores(CLASSES, MASKS).numpy()
    assert found.shape == (2, 3, 6, 7)
    classes, masks = CLASSES.double().numpy(), MASKS.double().numpy()
    for n, c, i, j in np.ndindex(2, 3, 6, 7):
        score = 0.0
        for q in range(5):
            exponentials = np.exp(classes[n, q])
            score += exponentials[c] / exponentials.sum() / (1 + math.exp(-masks[n, q, i, j]))
        assert found[n, c, i, j] == pytest.approx(math.log(score), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0, 200.0])
@pytest.mark.parametrize("shift", [0.0, -300.0, 300.0])
def test_gradients_do_not_vanish_where_probabilities_round(scale: float, shift: float) -> None:
    """The gradient is that of logsumexp over queries, computed in float64 from logarithms alone."""

    def exact(masks: Tensor) -> Tensor:
        logs = CLASSES.double().log_softmax(-1)[..., :-1, None, None] + F.logsigmoid(masks.double())[:, :, None]
        return logs.logsumexp(1)

    masks = (MASKS * scale / 3 + shift).requires_grad_()
    found, expected = log_class_scores(CLASSES, masks), exact(masks)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((found * weights).sum(), masks)
    (wanted,) = torch.autograd.grad((expected * weights.double()).sum(), masks)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=0)
    if shift <= 0 and scale < 100:
        assert (gradient != 0).any(1).all()


def test_extreme_scores_stay_finite_with_finite_gradients() -> None:
    masks = torch.full((1, 2, 2, 2), 1e4)
    masks[:, 0] = -1e4
    classes = torch.tensor([[[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]])
    masks.requires_grad_()
    found = log_class_scores(classes, masks)
    (gradient,) = torch.autograd.grad(found.sum(), masks)
    assert found.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("size", [(6, 7), (13, 20), (3, 4), (12, 5), (1, 1)])
def test_resizing_is_that_of_scores(size: tuple[int, int]) -> None:
    logs = log_class_scores(CLASSES, MASKS).double()
    expected = F.interpolate(logs.exp(), size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized(logs, size).exp(), expected)


def test_resizing_keeps_scores_that_float32_rounds_to_0() -> None:
    logs = torch.full((1, 1, 1, 2), -500.0).requires_grad_()
    found = resized(logs, (1, 4))
    torch.testing.assert_close(found, torch.full((1, 1, 1, 4), -500.0))
    (gradient,) = torch.autograd.grad(found.sum(), logs)
    torch.testing.assert_close(gradient, torch.full((1, 1, 1, 2), 2.0))


@pytest.mark.parametrize(("length", "window"), [(32, 32), (33, 32), (64, 32), (65, 32), (100, 32), (1000, 512)])
def test_windows_cover_everything_and_are_as_few_as_can_be(length: int, window: int) -> None:
    starts = window_starts(length, window)
    assert len(starts) == math.ceil(length / window)
    assert starts[0] == 0
    assert starts[-1] + window == length
    assert all(0 < b - a <= window for a, b in itertools.pairwise(starts))


class Pixels(nn.Module):
    """A network of pixels, images -> logits (N, 4, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return 8 * self.layer(images)


class AsMasks(nn.Module):
    """The same network as one of masks: a query for each class, whose mask has the class's probability."""

    def __init__(self, pixels: nn.Module) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, images: Tensor) -> SimpleNamespace:
        logits = self.pixels(images)
        others = torch.stack([logits[:, [j for j in range(4) if j != i]].logsumexp(1) for i in range(4)], 1)
        classes = torch.full((len(images), 4, 5), -40.0)
        classes[:, range(4), range(4)] = 40.0
        return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=logits - others)


@pytest.mark.parametrize("attack", ["bim(steps=5)", "segpgd(steps=5)", "apgd(steps=5)", "sea(steps=4)"])
def test_an_attack_reaches_what_it_reaches_on_the_same_network_of_pixels(attack: str) -> None:
    torch.manual_seed(0)
    pixels = Pixels().requires_grad_(False)
    masked = MaskClassifier(AsMasks(pixels))
    images, masks = torch.rand(2, 3, 12, 12), torch.randint(0, 4, (2, 12, 12))
    torch.testing.assert_close(masked(images), pixels(images).log_softmax(1))
    options = {"class_pixels": torch.ones(4)} if attack.startswith("sea") else {}
    right = []
    for network in (pixels, masked):
        drawn = torch.Generator().manual_seed(0)
        adversarial = specs.bound("attack", attack).attack()(network, images, masks, generator=drawn, **options)
        right.append(float((pixels(adversarial).argmax(1) == masks).float().mean()))
    assert right[0] == pytest.approx(right[1], abs=0.02)
    assert right[0] < float((pixels(images).argmax(1) == masks).float().mean())
