from __future__ import annotations

import math

import pytest
import torch

from segbench.defenses.base import auxiliary_loss, cross_entropy, segmentation_loss


def test_cross_entropy_is_the_mean_over_valid_pixels_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 100.0]]).view(1, 2, 1, 2)
    masks = torch.tensor([[[1, 255]]])
    assert cross_entropy(logits, masks, 255).item() == pytest.approx(math.log(4 / 3))


def test_cross_entropy_of_a_void_batch_is_zero() -> None:
    assert cross_entropy(torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), 255), 255).item() == 0


def test_cross_entropy_is_taken_in_float32() -> None:
    logits = torch.zeros(1, 2, 64, 64, dtype=torch.bfloat16)
    total = cross_entropy(logits, torch.zeros(1, 64, 64, dtype=torch.long), 255)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(math.log(2), rel=1e-6)


def test_segmentation_loss_weighs_the_auxiliary_classifier(segmenter, batch) -> None:
    segmenter.eval()
    parts = segmentation_loss(segmenter, *batch, aux_weight=0.4, ignore_index=255)
    assert parts.total.item() == pytest.approx(parts.terms["main"].item() + 0.4 * parts.terms["auxiliary"].item())
    expected = torch.nn.functional.cross_entropy(segmenter(batch[0]), batch[1], ignore_index=255)
    torch.testing.assert_close(parts.terms["main"], expected.detach())


def test_auxiliary_loss_is_zero_without_an_auxiliary_classifier(pixel_segmenter, batch) -> None:
    images, masks = batch
    features = pixel_segmenter.features(images)
    assert auxiliary_loss(pixel_segmenter, features.auxiliary, images, masks, 255).item() == 0
