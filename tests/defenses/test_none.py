from __future__ import annotations

import torch

from segbench.defenses.base import segmentation_loss
from segbench.defenses.none import NoDefense


def test_loss_is_that_of_the_clean_batch(segmenter, batch) -> None:
    segmenter.eval()
    loss = NoDefense(segmenter, aux_weight=0.3).loss(*batch, torch.Generator())
    assert torch.equal(loss.total, segmentation_loss(segmenter, *batch, aux_weight=0.3, ignore_index=255).total)


def test_the_network_itself_is_deployed(segmenter) -> None:
    assert NoDefense(segmenter).deploy() is segmenter
