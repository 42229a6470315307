from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.bim import bim
from segbench.attacks.sea import sea
from segbench.attacks.tools.watch import watching
from segbench.evaluation.curve import GRID, Curve, Seen
from segbench.evaluation.tally import confusion
from segbench.reports.statistics import mean_iou

CLASSES, VOID = 4, 255


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 3, padding=1)).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def watched(model: nn.Module, images: Tensor, masks: Tensor, **options: float) -> Curve:
    seen, curve = Seen(masks, CLASSES, VOID), Curve()
    with watching(model, images, norm="linf", eps=0.03, see=seen.see):
        bim(model, images, masks, eps=0.03, **options)
    curve.add(seen)
    return curve


def test_the_grid_is_dense_at_first_and_never_sparser_than_a_tenth() -> None:
    assert GRID[:12].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert (np.diff(GRID) <= np.maximum(GRID[:-1] // 10, 1)).all()


def test_a_curve_is_that_of_a_slow_loop(model: nn.Module, images: Tensor) -> None:
    masks = model(images).argmax(1)
    masks[0, :3] = VOID
    steps = 30
    iterates = bim.iterates(range(1, steps), model, images, masks, eps=0.03, alpha=0.002, steps=steps)
    iterates[0] = images
    slow, best = [], [np.full((3, CLASSES), 10**6) for _ in images]
    for step in sorted(iterates):
        for i, preds in enumerate(model(iterates[step]).argmax(1)):
            counts = confusion(preds, masks[i], CLASSES, VOID)
            best[i] = counts if counts[0].sum() < best[i][0].sum() else best[i]
        slow.append(100 * float(mean_iou(np.sum(best, axis=0), "skip")))
    curve = watched(model, images, masks, alpha=0.002, steps=steps)
    points = curve.points("skip")
    assert [passes for passes, _ in points] == [*GRID[steps >= GRID].tolist(), *([] if steps in GRID else [steps])]
    assert [miou for _, miou in points] == [pytest.approx(slow[passes - 1]) for passes, _ in points]
    half = curve.points("skip", 0.5)
    assert half == tuple(point for point in points if point[0] <= steps // 2)


def test_batches_add_up_to_the_whole(model: nn.Module, images: Tensor) -> None:
    masks = model(images).argmax(1)
    parts = Curve()
    for i in range(3):
        one = images[i : i + 1], masks[i : i + 1]
        seen = Seen(one[1], CLASSES, VOID)
        with watching(model, one[0], norm="linf", eps=0.03, see=seen.see):
            bim(model, *one, eps=0.03, alpha=0.004, steps=5 + i)
        parts.add(seen)
    assert parts.most == 7
    # An image that took fewer passes keeps what it had.
    alone = [Curve() for _ in range(3)]
    total = 0
    for i, own in enumerate(alone):
        seen = Seen(masks[i : i + 1], CLASSES, VOID)
        with watching(model, images[i : i + 1], norm="linf", eps=0.03, see=seen.see):
            bim(model, images[i : i + 1], masks[i : i + 1], eps=0.03, alpha=0.004, steps=5 + i)
        own.add(seen)
        assert own.counts is not None
        total = total + own.counts[-1]
    assert parts.points("skip")[-1] == (7, pytest.approx(100 * float(mean_iou(total, "skip"))))


def test_a_curve_begins_where_every_image_keeps_the_budget(model: nn.Module, images: Tensor) -> None:
    masks = model(images).argmax(1)
    seen, curve = Seen(masks, CLASSES, VOID), Curve()
    with watching(model, images, norm="linf", eps=0.03, see=seen.see):
        sea.parts(model, images, masks, eps=0.03, steps=20, class_pixels=torch.ones(CLASSES))
    curve.add(seen)
    # SEA begins outside the ball: 6 steps at 2 eps and 6 at 1.5 eps, each with the pass of its start.
    assert curve.points("skip")[0][0] > 7
    assert Curve().points("skip") == ()
