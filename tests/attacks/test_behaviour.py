"""What single attacks promise beyond the contract of all."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks.almaprox import _penalty_slope, almaprox, proximal_linf
from attacks.base import count_passes, distance
from attacks.bim import bim
from attacks.corruption import corruption
from attacks.cospgd import cospgd
from attacks.cw import cw
from attacks.dag import dag
from attacks.deepfool import deepfool
from attacks.losses import cross_entropy, image_mean
from attacks.mifgsm import _resample, _Shrunk, mifgsm
from attacks.pgd import pgd
from attacks.segpgd import segpgd
from attacks.square import square, window_side
from attacks.universal import universal

VOID = 255


def mean_loss(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    with torch.no_grad():
        return image_mean(cross_entropy(model(images), masks), masks)


def seeds(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_more_restarts_never_give_less_loss(task: Any) -> None:
    model = task.model.eval()
    losses = [
        mean_loss(model, pgd(model, task.images, task.masks, steps=2, restarts=n, generator=seeds(3)), task.masks)
        for n in (1, 2, 4)
    ]
    assert (losses[1] >= losses[0]).all()
    assert (losses[2] >= losses[1]).all()
    assert (losses[2] > losses[0]).any()


def test_random_starts_fill_the_ball(task: Any) -> None:
    for attack in (pgd, segpgd, cospgd):
        start = attack(task.model, task.images, task.masks, eps=0.03, alpha=0.0, steps=1, generator=seeds(3))
        assert 0.029 < float(distance(start, task.images, "linf").max()) <= 0.030001
        inner = (task.images > 0.03) & (task.images < 0.97)
        assert float((start - task.images)[inner].std()) == pytest.approx(0.03 / 3**0.5, rel=0.05)


def test_segpgd_first_step_ignores_wrong_pixels(pixel_linear: Any) -> None:
    model = pixel_linear(num_classes=3)
    images = torch.full((1, 3, 6, 5), 0.5)
    masks = model(images).argmax(1)
    masks[0, 0] = (masks[0, 0] + 1) % 3
    generator = seeds(1)
    start = segpgd(model, images, masks, alpha=0.0, steps=1, eps=1e-4, generator=seeds(1))
    made = segpgd(model, images, masks, alpha=1e-5, steps=1, eps=1e-4, generator=generator)
    assert torch.equal(made[0, :, 0], start[0, :, 0])
    assert not torch.equal(made[0, :, 1], start[0, :, 1])


def test_mifgsm_without_momentum_is_bim(task: Any) -> None:
    ours = mifgsm(task.model, task.images, task.masks, momentum=0.0, steps=5)
    assert torch.equal(ours, bim(task.model, task.images, task.masks, steps=5))


def test_mifgsm_accumulates_gradients_of_equal_length(task: Any) -> None:
    model = task.model.eval()
    one, two = mifgsm.iterates([1, 2], model, task.images, task.masks, alpha=0.004, steps=2).values()
    total = torch.zeros_like(task.images)
    for images in (task.images, one):
        images = images.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(images), task.masks, ignore_index=VOID, reduction="sum")
        gradient = torch.autograd.grad(loss, images)[0]
        total = total + gradient / gradient.flatten(1).abs().sum(1).view(-1, 1, 1, 1)
    expected = (one + 0.004 * total.sign()).clamp(0, 1)
    differing = ((expected - two).abs() > 1e-6).double().mean()
    assert differing < 0.001


def test_shrunk_copies_come_back_to_their_own_pixels() -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32).contiguous()
    model = _Shrunk(nn.Identity(), torch.tensor([0.8]), torch.tensor([[0.1, -0.2]]))
    back = model(ramp)
    torch.testing.assert_close(back[..., 2:-2, 2:-2], ramp[..., 2:-2, 2:-2], atol=0.01, rtol=0)
    canvas = _resample(ramp, 1 / torch.tensor([0.5]), torch.zeros(1, 2), "zeros")
    assert canvas[..., :7, :].abs().sum() == 0
    torch.testing.assert_close(canvas[0, 0, 16, 9:23], ramp[0, 0, 0].view(-1, 2).mean(1)[1:-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(_Shrunk(nn.Identity(), torch.ones(1), torch.zeros(1, 2))(ramp), ramp)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_rescaled_attacks_give_nothing_for_larger_logits(scale: float, task: Any) -> None:
    class Scaled(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = scale * task.model(images)
            return logits

    task.model.eval()
    for attack in (bim, pgd):
        plain = attack(task.model, task.images, task.masks, rescale=True)
        other = attack(Scaled(), task.images, task.masks, rescale=True)
        assert ((plain - other).abs() > 1e-6).double().mean() < 0.001
    assert not torch.equal(bim(task.model, task.images, task.masks), bim(Scaled(), task.images, task.masks))


def test_deepfool_stops_when_no_pixel_is_right(task: Any) -> None:
    model = task.model.eval()
    wrong = (model(task.images).argmax(1) + 1) % 4
    with count_passes(model) as passes:
        made = deepfool(model, task.images, wrong)
    assert torch.equal(made, task.images)
    assert passes.forward == 3


def test_dag_stops_at_its_share(task: Any) -> None:
    model = task.model.eval()
    valid = (task.masks != VOID).flatten(1).sum(1)
    for share in (0.4, 0.6):
        made = dag(model, task.images, task.masks, share=share)
        wrong = ((model(made).argmax(1) != task.masks) & (task.masks != VOID)).flatten(1).sum(1) / valid
        assert (wrong >= share).all()
        assert (wrong <= share + 0.1).all()
    bounded = dag(model, task.images, task.masks, eps=0.004)
    assert (distance(bounded, task.images, "linf") <= 0.004 + 1e-6).all()


def test_cw_adam_and_sign_are_different_ways_to_the_same_end(task: Any) -> None:
    model = task.model.eval()
    made = [
        cw(model, task.images, task.masks, eps=0.2, alpha=0.04, steps=20, optimizer=name) for name in ("sign", "adam")
    ]
    assert not torch.equal(*made)
    for images in made:
        assert ((model(images).argmax(1) == task.masks) & (task.masks != VOID)).double().mean() < 0.2


def test_proximal_step_minimises_its_objective() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.double)
    change = torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.double) * 0.3
    metric = torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.double) + 0.5
    size = torch.tensor([0.05, 0.4], dtype=torch.double)
    made = proximal_linf(change, size, metric, images)
    assert ((images + made >= -1e-12) & (images + made <= 1 + 1e-12)).all()
    for n in range(2):
        boxed = change[n].clamp(-images[n], 1 - images[n])

        def objective(p: Tensor, n: int = n) -> Tensor:
            return size[n] * p.abs().max() + (metric[n] * (p - change[n]).square()).sum() / 2

        grid = [objective(boxed.clamp(-t, t)) for t in torch.linspace(0, float(boxed.abs().max()), 2001)]
        assert objective(made[n]) <= min(grid) + 1e-6


def test_penalty_slope_is_the_derivative_of_the_penalty() -> None:
    y = torch.tensor([-2.0, -0.3, 0.0, 0.4, 3.0], dtype=torch.double, requires_grad=True)
    for rho, mu in ((0.01, 1.0), (4.0, 0.2)):
        above = mu * y + mu * rho * y**2 + rho**2 * y**3 / 6
        below = mu * y / (1 - max(rho, 1.0) * y.clamp(max=0))
        (expected,) = torch.autograd.grad(torch.where(y >= 0, above, below).sum(), y)
        made = _penalty_slope(y.detach(), torch.full_like(y, rho), torch.full_like(y, mu))
        torch.testing.assert_close(made, expected)


def test_almaprox_asks_for_enough_classes(pixel_linear: Any) -> None:
    with pytest.raises(ValueError, match="at least 3 classes"):
        almaprox(pixel_linear(), torch.full((1, 3, 6, 5), 0.5), torch.zeros(1, 6, 5, dtype=torch.long))


def test_square_schedule_is_that_of_the_paper() -> None:
    size = torch.Size([100, 100])
    assert [window_side(q, 10_000, 0.8, size) for q in (1, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)] == [
        round((0.8 / 2**k) ** 0.5 * 100) for k in range(10)
    ]
    assert window_side(9, 10, 0.0001, size) == 1
    assert window_side(1, 10_000, 1.0, torch.Size([10, 40])) == 10


def test_square_uses_no_more_queries_than_it_may_and_none_when_done(task: Any) -> None:
    model = task.model.eval()
    with count_passes(model) as passes:
        square(model, task.images, task.masks, queries=17, generator=seeds(3))
    assert passes.forward == 17 * 3
    wrong = (model(task.images).argmax(1) + 1) % 4
    with count_passes(model) as passes:
        square(model, task.images, wrong, eps=1e-6, queries=17, generator=seeds(3))
    assert passes.forward == 3


def test_more_queries_never_give_less_margin_loss(task: Any) -> None:
    from attacks.losses import carlini_wagner

    model = task.model.eval()

    def loss(images: Tensor) -> Tensor:
        return image_mean(carlini_wagner(model(images), task.masks), task.masks)

    made = square(model, task.images, task.masks, queries=60, generator=seeds(3))
    stripes = square(model, task.images, task.masks, queries=1, generator=seeds(3))
    assert (loss(made) > loss(stripes)).all()
    inner = (task.images > 0.03) & (task.images < 0.97)
    torch.testing.assert_close((stripes - task.images).abs()[inner], torch.full((int(inner.sum()),), 0.03))


def test_universal_is_one_change_for_all_images(task: Any) -> None:
    bound = universal.bind(eps=0.05, alpha=0.01, epochs=3)
    model = task.model.eval()
    images = task.images * 0.8 + 0.1
    perturbation = bound.fit(model, [(images[:2], task.masks[:2]), (images[2:], task.masks[2:])])
    assert perturbation.shape == images.shape[1:]
    assert float(perturbation.abs().max()) <= 0.05 + 1e-6
    made = bound(model, images, task.masks, perturbation=perturbation)
    torch.testing.assert_close(made - images, perturbation.expand_as(images), atol=1e-6, rtol=0)
    assert mean_loss(model, made, task.masks).mean() > mean_loss(model, images, task.masks).mean()


def test_universal_says_what_it_lacks(task: Any) -> None:
    bound = universal.bind()
    with pytest.raises(ValueError, match="make one with `fit`"):
        bound(task.model, task.images, task.masks)
    with pytest.raises(ValueError, match="images of one size"):
        bound(task.model, task.images, task.masks, perturbation=torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="at least one"):
        bound.fit(task.model, [])
    with pytest.raises(TypeError, match="nothing to fit"):
        bim.bind().fit(task.model, [])


def test_corruption_says_what_to_install(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(ModuleNotFoundError, match="imagecorruptions-imaug"):
        corruption(task.model, task.images, task.masks)


def test_corruption_needs_32_pixels(task: Any) -> None:
    pytest.importorskip("imagecorruptions", reason="the extra 'corruptions' is not installed")
    with pytest.raises(ValueError, match="32x32"):
        corruption(task.model, task.images[..., :16], task.masks[..., :16])


@pytest.mark.slow
def test_every_corruption_repeats_and_grows(trained: Any) -> None:
    pytest.importorskip("imagecorruptions", reason="the extra 'corruptions' is not installed")
    from typing import get_args

    from attacks.corruption import Kind

    images, masks = trained.images[:2], trained.masks[:2]
    for kind in get_args(Kind):
        weak, strong, again = (
            corruption(trained.model, images, masks, kind=kind, severity=severity, generator=seeds(2))
            for severity in (1, 5, 5)
        )
        assert torch.equal(strong, again), kind
        assert strong.min() >= 0
        assert strong.max() <= 1
        if kind != "frost":  # It draws one of several pictures of frost, of different brightness.
            assert (strong - images).abs().mean() > (weak - images).abs().mean(), kind
