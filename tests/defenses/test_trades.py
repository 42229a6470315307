from __future__ import annotations

import math

import pytest
import torch

from segbench.attacks.base import ThreatModel
from segbench.attacks.tools.budget import check_budget
from segbench.defenses.base import segmentation_loss
from segbench.defenses.trades import Trades, divergence


def test_divergence_by_hand() -> None:
    clean = torch.tensor([0.5, 0.25, 0.25]).log().view(1, 3, 1, 1)
    attacked = torch.tensor([0.25, 0.25, 0.5]).log().view(1, 3, 1, 1)
    masks = torch.zeros(1, 1, 1, dtype=torch.long)
    by_hand = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert divergence(attacked, masks, clean).item() == pytest.approx(by_hand)
    assert divergence(clean + 7, masks, clean).item() == pytest.approx(0, abs=1e-6)


def test_loss_is_clean_loss_plus_beta_times_divergence(segmenter, batch) -> None:
    images, masks = batch
    segmenter.eval()
    with torch.no_grad():
        segmenter.classifier[-1].weight *= 20  # a network that the attack moves far: the divergence is lopsided
    defense = Trades(segmenter, beta=3.0, eps=0.1, alpha=0.05)
    adversarial = defense.attack(images, masks, torch.Generator().manual_seed(2))
    losses = defense.loss(images, masks, torch.Generator().manual_seed(2))
    clean = segmentation_loss(segmenter, images, masks, aux_weight=0.4, ignore_index=255).total
    p, q = segmenter(images).softmax(1), segmenter(adversarial).softmax(1)
    valid = masks != 255
    kl = (p * (p / q).log()).sum(1)[valid].mean()
    backwards = (q * (q / p).log()).sum(1)[valid].mean()
    assert abs(kl - backwards) > 0.02 * kl
    torch.testing.assert_close(losses.total, clean + 3 * kl)
    torch.testing.assert_close(losses.terms["divergence"], kl.detach(), rtol=1e-3, atol=0)


def test_both_predictions_receive_the_gradient_of_the_divergence() -> None:
    clean, attacked = (torch.randn(1, 3, 2, 2).requires_grad_() for _ in range(2))
    divergence(attacked, torch.zeros(1, 2, 2, dtype=torch.long), clean).sum().backward()
    assert clean.grad.abs().sum() > 0
    assert attacked.grad.abs().sum() > 0


def test_attack_keeps_its_budget_and_raises_the_divergence(segmenter, batch) -> None:
    images, masks = batch
    defense = Trades(segmenter.eval(), eps=0.05, alpha=0.02, steps=8)
    made = defense.attack(images, masks, torch.Generator().manual_seed(0))
    check_budget(made, images, ThreatModel("linf", 0.05, "gradients"))
    clean = segmenter(images)

    def moved(adversarial: torch.Tensor) -> float:
        return divergence(segmenter(adversarial), masks, clean)[masks != 255].mean().item()

    corners = [0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(n)).sign() for n in range(5)]
    assert moved(made) > 2 * max(moved((images + corner).clamp(0, 1)) for corner in corners)


def test_attack_needs_no_labels(segmenter, batch) -> None:
    images, masks = batch
    defense = Trades(segmenter)
    made = [
        defense.attack(images, labels, torch.Generator().manual_seed(0))
        for labels in (masks, torch.where(masks == 255, 255, 0))
    ]
    assert torch.equal(*made)


def test_training_passes_are_two_and_attack_moves_no_statistics(segmenter, batch) -> None:
    Trades(segmenter.train()).loss(*batch, torch.Generator())
    counters = [v.item() for k, v in segmenter.trunk.named_buffers() if k.endswith("num_batches_tracked")]
    assert counters == [2, 2]
