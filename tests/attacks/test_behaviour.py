"""What single attacks promise beyond the contract of all."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.almaprox import _penalty_slope, almaprox, proximal_linf
from segbench.attacks.apgd import apgd
from segbench.attacks.bim import bim
from segbench.attacks.corruption import corruption
from segbench.attacks.cospgd import cospgd
from segbench.attacks.cw import cw
from segbench.attacks.dag import dag
from segbench.attacks.deepfool import deepfool
from segbench.attacks.mifgsm import _resample, _Shrunk, mifgsm
from segbench.attacks.padam import padam
from segbench.attacks.pdpgd import pdpgd
from segbench.attacks.pgd import pgd
from segbench.attacks.sea import sea
from segbench.attacks.segpgd import segpgd
from segbench.attacks.square import WIDTH, square, window_side
from segbench.attacks.standard import standard
from segbench.attacks.tools.budget import distance
from segbench.attacks.tools.losses import cross_entropy, image_mean, right_pixels, soft_margin, typical_margin
from segbench.attacks.tools.passes import count_passes
from segbench.attacks.tools.targets import goal
from segbench.attacks.universal import universal

VOID = 255


def mean_loss(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    with torch.no_grad():
        return image_mean(cross_entropy(model(images), masks), masks)


def seeds(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_more_restarts_never_give_less_loss(task: Any) -> None:
    model = task.model.eval()
    losses = [
        mean_loss(
            model,
            pgd(model, task.images, task.masks, steps=2, restarts=n, keep="loss", generator=seeds(3)),
            task.masks,
        )
        for n in (1, 2, 4)
    ]
    assert (losses[1] >= losses[0]).all()
    assert (losses[2] >= losses[1]).all()
    assert (losses[2] > losses[0]).any()


def test_the_restart_with_the_fewest_right_pixels_is_kept(task: Any) -> None:
    model, options = task.model.eval(), {"eps": 0.02, "steps": 2}
    shared = seeds(3)  # Consecutive calls go on drawing from them, as consecutive restarts do.
    singles = [pgd(model, task.images, task.masks, **options, generator=shared) for _ in range(6)]
    left = torch.stack([right_pixels(model(images), task.masks) for images in singles])
    losses = torch.stack([mean_loss(model, images, task.masks) for images in singles])
    assert (left.argmin(0) != losses.argmax(0)).any(), "the two choices must differ somewhere"
    for keep, chosen in (("accuracy", left.argmin(0)), ("loss", losses.argmax(0))):
        made = pgd(model, task.images, task.masks, **options, restarts=6, keep=keep, generator=seeds(3))
        for i, restart in enumerate(chosen.tolist()):
            assert torch.equal(made[i], singles[restart][i])


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
    # C&W takes margins as shares of the image's own, without being asked.
    plain, other = (cw(network, task.images, task.masks) for network in (task.model, Scaled()))
    assert ((plain - other).abs() > 1e-6).double().mean() < 0.01


def test_deepfool_stops_when_no_pixel_is_right(task: Any) -> None:
    model = task.model.eval()
    wrong = (model(task.images).argmax(1) + 1) % 4
    with count_passes(model) as passes:
        made = deepfool(model, task.images, wrong)
    assert torch.equal(made, task.images)
    assert passes.forward == 3


STEPWISE: dict[str, Callable[..., Tensor]] = {
    "deepfool": lambda *args, steps: deepfool(*args, eps=0.1, steps=steps),
    "dag": lambda *args, steps: dag(*args, eps=0.1, alpha=0.08, steps=steps),
    "dag without eps": lambda *args, steps: dag(*args, alpha=0.08, steps=steps),
    "padam": lambda *args, steps: padam(*args, eps=0.1, alpha=0.1, steps=steps, generator=seeds(3)),
}
"""Attacks whose first steps do not depend on how many follow, with large steps."""


@pytest.mark.parametrize("name", STEPWISE)
def test_more_steps_are_never_weaker(name: str, task: Any, pixel_linear: Any) -> None:
    linear = pixel_linear(num_classes=3, height=32, width=32)
    network, attack = task.model.eval(), STEPWISE[name]
    for model, masks in ((network, task.masks), (linear, linear(task.images).argmax(1))):
        made = [attack(model, task.images, masks, steps=n) for n in (1, 2, 3, 4, 6, 9, 15)]
        left = torch.stack([right_pixels(model(images), masks) for images in made])
        assert (left.diff(dim=0) <= 0).all()
        assert (left[-1] < left[0]).any()


@pytest.mark.parametrize("attack", [almaprox, pdpgd], ids=lambda attack: attack.name)
@pytest.mark.parametrize("eps", [0.01, 0.04])
def test_a_minimum_norm_attack_with_an_eps_keeps_its_best_iterate_inside(attack: Any, eps: float, task: Any) -> None:
    model = task.model.eval()
    left = []
    for steps in (40, 160):
        seen: list[Tensor] = []
        handle = model.register_forward_hook(lambda module, inputs, logits, seen=seen: seen.append(inputs[0].detach()))
        made = attack(model, task.images, task.masks, eps=eps, steps=steps, alpha=0.005)
        handle.remove()
        assert max(float(distance(images, task.images, "linf").max()) for images in seen) <= eps + 1e-6
        best = torch.stack([right_pixels(model(images), task.masks) for images in seen]).amin(0)
        left.append(right_pixels(model(made), task.masks))
        assert torch.equal(left[-1], best)
    # More steps go another way: the schedule is stretched to them.
    assert int(left[1].sum()) <= 1.01 * int(left[0].sum())


def test_deepfool_returns_its_best_iterate_and_steps_no_further_than_eps(task: Any) -> None:
    model, eps = task.model.eval(), 0.01
    seen: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, inputs, logits: seen.append(inputs[0].detach().clone()))
    made = deepfool(model, task.images, task.masks, eps=eps, steps=12)
    handle.remove()
    left = torch.stack([right_pixels(model(images), task.masks) for images in seen])
    assert len(seen) == 13
    assert (left.amin(0) < left[-1]).any(), "the last iterate must not be the best one"
    assert torch.equal(right_pixels(model(made), task.masks), left.amin(0))
    for before, after in itertools.pairwise(seen):
        assert (distance(after, before, "linf") <= eps * (1 + 1e-6)).all()


class Watched(nn.Module):
    """Counts by itself how often it sees each image of a batch, told by what it looks like."""

    def __init__(self, model: nn.Module, marks: Tensor) -> None:
        super().__init__()
        self.model = model
        self.marks = marks
        self.seen = torch.zeros(len(marks), dtype=torch.long)

    def forward(self, images: Tensor) -> Tensor:
        # Attacks of a small eps leave every image nearest to the one that it was made from.
        nearest = torch.cdist(images.detach().flatten(1), self.marks.flatten(1)).argmin(1)
        self.seen += torch.bincount(nearest, minlength=len(self.marks))
        logits: Tensor = self.model(images)
        return logits


STOPPING: dict[str, tuple[Callable[..., Tensor], int]] = {
    "apgd": (lambda *args: apgd(*args, eps=0.01, steps=6), 1),
    "cw": (lambda *args: cw(*args, eps=0.01, steps=6), 1),
    "dag": (lambda *args: dag(*args, eps=0.01, steps=6), 1),
    "deepfool": (lambda *args: deepfool(*args, eps=0.01, steps=6), 1),
    # An image is finished with its stage: three losses of three stages, and the three parts that are compared.
    "sea": (lambda *args: sea(*args, eps=0.01, steps=6, class_pixels=torch.ones(4)), 12),
    "square": (lambda *args: square(*args, eps=0.01, queries=6), 1),
    # A restart is always taken to its end, and then measured once.
    "pgd": (lambda *args: pgd(*args, eps=0.01, steps=5, restarts=3), 6),
}


@pytest.mark.parametrize("name", STOPPING)
def test_a_network_sees_no_more_of_an_image_that_is_wrong_as_a_whole(name: str, task: Any) -> None:
    attack, most = STOPPING[name]
    network = Watched(task.model.eval(), task.images)
    masks = task.masks.clone()
    # Far from what the network says, so that random starts leave it wrong as well.
    masks[0] = torch.where(masks[0] == VOID, VOID, network(task.images)[0].argmin(0))
    network.seen.zero_()
    with count_passes(network) as passes:
        made = attack(network, task.images, masks)
    assert passes.forward == int(network.seen.sum())
    assert int(network.seen[0]) <= most
    assert (network.seen[1:] > most).all()
    assert not ((task.model(made).argmax(1) == masks) & (masks != VOID))[0].any()


def test_a_restart_is_spared_only_where_the_kept_one_is_wrong_as_a_whole(task: Any) -> None:
    model = task.model.eval()
    with count_passes(model) as passes:
        pgd(model, task.images, task.masks, eps=0.001, steps=2, restarts=3, generator=seeds(3))
    assert (passes.forward, passes.backward) == (3 * 3 * 3, 3 * 3 * 2)
    # Towards what it says already: nothing is left to do after the first restart.
    reached = model(task.images).argmax(1)
    with count_passes(model) as passes:
        pgd(model, task.images, task.masks, eps=1e-6, alpha=1e-7, steps=2, restarts=3, target=reached)
    assert (passes.forward, passes.backward) == (3 * 3, 3 * 2)


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


def test_dag_with_a_target_stops_once_a_share_is_on_it(task: Any) -> None:
    model = task.model.eval()
    # What the network says of other images: few pixels are on it, and all can be.
    labels = goal(task.masks, model(task.images.roll(1, 0)).argmax(1))
    valid = (labels != VOID).flatten(1).sum(1)
    assert (right_pixels(model(task.images), labels) < 0.5 * valid).all()
    for share in (0.6, 0.8):
        made = dag(model, task.images, task.masks, alpha=0.02, share=share, target=labels)
        reached = right_pixels(model(made), labels) / valid
        assert (reached >= share).all()
        assert (reached <= share + 0.1).all()


def test_cw_keeps_the_iterate_with_the_fewest_right_pixels(task: Any) -> None:
    model = task.model.eval()
    seen: list[Tensor] = []
    handle = model.register_forward_hook(
        lambda module, inputs, logits: seen.append(right_pixels(logits.detach(), task.masks))
    )
    made = cw(model, task.images, task.masks, eps=0.03, alpha=0.5, steps=12)
    handle.remove()
    left = torch.stack(seen)
    assert len(left) == 13
    assert (left.amin(0) < left[-1]).any(), "the last iterate must not be the best one"
    assert torch.equal(right_pixels(model(made), task.masks), left.amin(0))


def test_cw_with_a_kappa_steps_down_the_sum_of_margins_cut_off_below_it(task: Any) -> None:
    task.model.eval()
    kappa, alpha = 0.5, 0.001
    images = task.images.clone().requires_grad_()
    logits = task.model(images)
    labels = task.masks.where(task.masks != 255, 0)[:, None]
    margins = (logits.gather(1, labels) - logits.scatter(1, labels, -torch.inf).amax(1, keepdim=True))[:, 0]
    counted = (margins > -kappa) & (task.masks != 255)
    assert 0 < int(counted.sum()) < int((task.masks != 255).sum())
    (gradient,) = torch.autograd.grad(margins[counted].sum(), images)
    stepped = (task.images - alpha * gradient.sign()).clamp(0, 1)
    made = cw(task.model, task.images, task.masks, eps=0.01, alpha=alpha, steps=1, kappa=kappa)
    kept = (made != task.images).flatten(1).any(1)  # An image keeps its first iterate where the step did harm to none.
    assert kept.any()
    torch.testing.assert_close(made[kept], stepped[kept], rtol=0, atol=1e-7)


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


def test_penalty_slope_of_the_released_code() -> None:
    y = torch.tensor([-2.0, -0.3, 0.0, 0.4, 3.0], dtype=torch.double)
    rho, mu = torch.full_like(y, 2.0), torch.full_like(y, 0.5)
    # mu y + 2 mu rho y + rho^2 y^2 / 2 above 0, mu / (1 - rho y)^2 below.
    expected = torch.tensor([0.5 / 25, 0.5 / 1.6**2, 0.0, 0.2 + 0.8 + 0.32, 1.5 + 6.0 + 18.0], dtype=torch.double)
    torch.testing.assert_close(_penalty_slope(y, rho, mu, "released"), expected)


def test_penalty_slope_is_the_derivative_of_the_penalty() -> None:
    y = torch.tensor([-2.0, -0.3, 0.0, 0.4, 3.0], dtype=torch.double, requires_grad=True)
    for rho, mu in ((0.01, 1.0), (4.0, 0.2)):
        above = mu * y + mu * rho * y**2 + rho**2 * y**3 / 6
        below = mu * y / (1 - max(rho, 1.0) * y.clamp(max=0))
        (expected,) = torch.autograd.grad(torch.where(y >= 0, above, below).sum(), y)
        made = _penalty_slope(y.detach(), torch.full_like(y, rho), torch.full_like(y, mu), "derivative")
        torch.testing.assert_close(made, expected)


def test_almaprox_asks_for_enough_classes(pixel_linear: Any) -> None:
    with pytest.raises(ValueError, match="at least 3 classes"):
        almaprox(pixel_linear(), torch.full((1, 3, 6, 5), 0.5), torch.zeros(1, 6, 5, dtype=torch.long))


class WithUnknown(nn.Module):
    """A network under a dataset of one class more, which it does not know: its logit is -1e4 everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return torch.cat([logits, torch.full_like(logits[:, :1], -1e4)], 1)


UNKNOWN: dict[str, Callable[..., Tensor]] = {
    "cw": lambda *args: cw(*args, eps=0.01),
    "square": lambda *args: square(*args, eps=0.03, queries=300, generator=seeds(3)),
    "apgd": lambda *args: apgd(*args, eps=0.03, steps=12, loss="masked-spherical", generator=seeds(3)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_pixels_of_unknown_classes_count_no_more_than_void_ones(name: str, task: Any) -> None:
    model, attack = WithUnknown(task.model.eval()), UNKNOWN[name]
    generator = torch.Generator().manual_seed(5)
    chosen = (torch.rand(task.masks.shape, generator=generator) < 0.18) & (task.masks != VOID)
    unknown, void = (task.masks.where(~chosen, label) for label in (4, VOID))
    with_unknown, with_void = (
        int(right_pixels(model(attack(model, task.images, masks)), void).sum()) for masks in (unknown, void)
    )
    valid = int((void != VOID).sum())
    assert with_void < 0.85 * valid
    assert with_unknown == pytest.approx(with_void, abs=0.005 * valid)


@pytest.mark.parametrize("name", [*UNKNOWN, "almaprox", "pdpgd"])
def test_a_class_that_no_pixel_has_and_the_network_does_not_know_changes_nothing(name: str, task: Any) -> None:
    others: dict[str, Callable[..., Tensor]] = {"almaprox": almaprox, "pdpgd": pdpgd}
    attack = UNKNOWN.get(name) or partial(others[name], eps=0.03, steps=12)
    plain, wider = (attack(model, task.images, task.masks) for model in (task.model, WithUnknown(task.model)))
    assert ((plain - wider).abs() > 1e-6).double().mean() < 0.001


def test_attacks_that_weigh_classes_count_those_of_the_masks_where_no_others_are_given(task: Any) -> None:
    counted = torch.bincount(task.masks[task.masks != VOID], minlength=4)
    weighing = ((sea, {"steps": 4}), (apgd, {"steps": 4, "loss": "balanced-masked-ce"}), (standard, {"passes": 9}))
    for attack, options in weighing:
        with pytest.warns(UserWarning, match=f"{attack.name}: class_pixels.* is not given"):
            made = attack(task.model, task.images, task.masks, **options, generator=seeds(3))
        given = attack(task.model, task.images, task.masks, **options, generator=seeds(3), class_pixels=counted)
        assert torch.equal(made, given)


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


def test_a_square_is_kept_only_where_it_raises_the_loss(task: Any) -> None:
    model = task.model.eval()
    made = {n: square(model, task.images, task.masks, queries=n, generator=seeds(3)) for n in (1, 60)}
    with torch.no_grad():
        typical = typical_margin(model(made[1]), task.masks)

    def loss(images: Tensor) -> Tensor:
        return image_mean(soft_margin(model(images), task.masks, width=WIDTH, typical=typical), task.masks)

    seen: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, inputs, logits: seen.append(inputs[0].clone()))
    square(model, task.images, task.masks, queries=60, generator=seeds(3))
    handle.remove()
    # The best of all that was tried; kept squares lie on one another, so that it is the last that was kept, too.
    torch.testing.assert_close(loss(made[60]), torch.stack([loss(images) for images in seen]).amax(0))
    inner = (task.images > 0.03) & (task.images < 0.97)
    torch.testing.assert_close((made[1] - task.images).abs()[inner], torch.full((int(inner.sum()),), 0.03))


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
    with pytest.raises(ValueError, match=r"needs a perturbation.*perturbation = bound\.fit"):
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

    from segbench.attacks.corruption import Kind

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
