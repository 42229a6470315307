from __future__ import annotations

from typing import Any

import pytest
import torch

from segbench.attacks.apgd import apgd, segpgd_losses
from segbench.attacks.cospgd import cospgd_loss
from segbench.attacks.padam import padam, projected_adam
from segbench.attacks.segpgd import segpgd_loss
from segbench.attacks.tools.losses import cross_entropy, image_mean, masked_cross_entropy, right_pixels

EPS = 0.05


@pytest.mark.parametrize("loss", [cross_entropy, cospgd_loss])
def test_it_takes_the_steps_of_torchs_adam_with_amsgrad(loss: Any, task: Any) -> None:
    model, images, masks = task.model.eval().double(), task.images.double(), task.masks
    start = images.clone()
    change = torch.zeros_like(images)
    optimizer = torch.optim.Adam([change], lr=EPS / 4, amsgrad=True, maximize=True)
    iterates = [start]
    for _ in range(6):
        change.requires_grad_()
        change.grad = torch.autograd.grad(image_mean(loss(model(images + change), masks), masks).sum(), change)[0]
        optimizer.step()
        with torch.no_grad():
            change.clamp_(-EPS, EPS)
            change.copy_((images + change).clamp(0, 1) - images)
        iterates.append((images + change).detach().clone())
    with torch.no_grad():
        right = torch.stack([right_pixels(model(own), masks) for own in iterates])
    fewest = right.shape[0] - 1 - right.flip(0).argmin(0)  # of several the last
    expected = torch.stack([iterates[int(at)][i] for i, at in enumerate(fewest)])
    made = projected_adam(model, images, masks, start, loss, eps=EPS, alpha=EPS / 4, steps=6)
    assert torch.allclose(made, expected, atol=1e-9)


def test_cos_and_ce_go_different_ways(task: Any) -> None:
    made = [padam(task.model, task.images, task.masks, eps=EPS, steps=5, loss=name) for name in ("ce", "cos")]
    assert not torch.equal(*made)


def test_apgd_weighs_pixels_as_segpgd_does(task: Any) -> None:
    losses = segpgd_losses(4)
    logits = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    masks = logits.argmax(1).roll(1, 2)
    assert len(losses) == 5
    for loss, weight in zip(losses, (0.0, 0.125, 0.25, 0.375, 0.375), strict=True):
        assert torch.equal(loss(logits, masks), segpgd_loss(logits, masks, weight=weight))
    # At first the wrong pixels weigh nothing, as in masked cross-entropy: the first step is the same.
    assert torch.equal(losses[0](logits, masks), masked_cross_entropy(logits, masks))
    one, other = (
        apgd(task.model, task.images, task.masks, eps=EPS, steps=1, loss=name, keep="loss")
        for name in ("segpgd", "masked-ce")
    )
    assert torch.equal(one, other)
