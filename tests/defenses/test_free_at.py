from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segbench.attacks.tools.passes import count_passes
from segbench.defenses.base import segmentation_loss
from segbench.defenses.free_at import FreeAT


@pytest.fixture
def seen(segmenter) -> list[Tensor]:
    """The images that the network is trained on, call by call."""
    images: list[Tensor] = []
    features = segmenter.features

    def keep(given: Tensor):
        images.append(given.detach().clone())
        return features(given)

    segmenter.features = keep
    return images


def test_a_batch_is_replayed_and_the_next_ones_passed_over(segmenter, batch, seen) -> None:
    images, masks = batch
    defense = FreeAT(segmenter, eps=0.0, replays=3)
    for step in range(6):
        defense.loss(images.roll(step, 3), masks, torch.Generator()).total.backward()
    for call, step in enumerate([0, 0, 0, 3, 3, 3]):
        assert torch.equal(seen[call], images.roll(step, 3))


def test_perturbation_follows_algorithm_1(segmenter, batch, seen) -> None:
    """Against a plain loop: gradient of the training loss, step eps along its sign, clipped; carried over batches."""
    segmenter.eval()
    images, masks = batch
    images[:2] = images[:2].round()  # half of the steps leave [0, 1] here
    defense = FreeAT(segmenter, eps=0.02, replays=2)
    delta = torch.zeros_like(images)
    for step in range(4):
        given = images.roll(step, 3)
        used = images.roll(step - step % 2, 3)
        defense.loss(given, masks, torch.Generator()).total.backward()
        perturbed = (used + delta).clamp(0, 1)
        assert torch.equal(seen.pop(0), perturbed)
        perturbed.requires_grad_()
        loss = segmentation_loss(segmenter, perturbed, masks, aux_weight=0.4, ignore_index=255).total
        seen.clear()
        (gradient,) = torch.autograd.grad(loss, perturbed)
        # The chain rule through the clipping to [0, 1], by hand.
        cut = (used + delta < 0) | (used + delta > 1)
        assert cut.any() == (step > 0)
        gradient = torch.where(cut, 0, gradient)
        delta = (delta + 0.02 * gradient.sign()).clamp(-0.02, 0.02)
    assert delta.abs().max() == pytest.approx(0.02)


def test_a_value_that_the_box_cuts_off_stays_where_it_is(segmenter, batch) -> None:
    images, masks = batch[0].round(), batch[1]
    defense = FreeAT(segmenter, eps=0.02, replays=4)
    defense.loss(images, masks, torch.Generator()).total.backward()
    first = defense.perturbation.clone()
    outside = (images + first < 0) | (images + first > 1)
    assert 0.2 < outside.double().mean() < 0.8
    for _ in range(3):
        defense.loss(images, masks, torch.Generator()).total.backward()
        assert torch.equal(defense.perturbation[outside], first[outside])
    assert not torch.equal(defense.perturbation[~outside], first[~outside])


def test_an_iteration_costs_one_forward_and_no_extra_backward_pass(segmenter, batch) -> None:
    defense = FreeAT(segmenter)
    calls: list[int] = []
    segmenter.trunk.register_forward_hook(lambda *_: calls.append(1))
    with count_passes(segmenter.classifier) as passes:
        for _ in range(3):
            defense.loss(*batch, torch.Generator()).total.backward()
    assert len(calls) == 3
    assert passes.backward == 3 * len(batch[0])


def test_perturbation_starts_anew_when_the_batch_changes_size(segmenter, batch) -> None:
    images, masks = batch
    defense = FreeAT(segmenter, replays=1)
    defense.loss(images, masks, torch.Generator()).total.backward()
    defense.loss(images[:2], masks[:2], torch.Generator()).total.backward()
    assert defense.perturbation.shape == images[:2].shape


def test_no_replays_are_refused(segmenter) -> None:
    with pytest.raises(ValueError, match="replays must be at least 1, got 0"):
        FreeAT(segmenter, replays=0)
