from __future__ import annotations

import pytest
import torch

from segbench.defenses.base import Prepared
from segbench.defenses.pgd_at import pgd_at
from segbench.defenses.pir_at import pir_at
from segbench.model_zoo.base import ModelError


@pytest.fixture
def robust(make_segmenter, tmp_path) -> str:
    torch.save({"state_dict": make_segmenter(seed=9).trunk.encoder.state_dict()}, tmp_path / "robust.pth")
    return str(tmp_path / "robust.pth")


def test_prepare_loads_the_encoder_and_nothing_else(make_segmenter, robust) -> None:
    segmenter, before, source = make_segmenter(), make_segmenter(), make_segmenter(seed=9)
    defense = pir_at(segmenter, backbone=robust)
    assert isinstance(defense, Prepared)
    assert torch.equal(segmenter.trunk.encoder[0].weight, before.trunk.encoder[0].weight)
    defense.prepare()
    assert torch.equal(segmenter.trunk.encoder[0].weight, source.trunk.encoder[0].weight)
    assert torch.equal(segmenter.trunk.last[0].weight, before.trunk.last[0].weight)


def test_after_preparation_it_trains_as_pgd_at(make_segmenter, robust, batch) -> None:
    prepared, loaded = (pir_at(make_segmenter(), backbone=robust) for _ in range(2))
    prepared.prepare()
    loaded.prepare()
    losses = []
    for training in (prepared, pgd_at(loaded.deploy())):
        torch.manual_seed(0)
        losses.append(training.loss(*batch, torch.Generator().manual_seed(0)).total)
    assert torch.equal(*losses)


def test_building_it_for_evaluation_needs_no_file(segmenter) -> None:
    assert pir_at(segmenter, backbone="nowhere.pth").deploy() is segmenter


def test_a_missing_file_and_a_network_without_encoder_are_errors(segmenter, pixel_segmenter, robust) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.pth"):
        pir_at(segmenter, backbone="nowhere.pth").prepare()
    with pytest.raises(ModelError, match="trunk has an encoder"):
        pir_at(pixel_segmenter, backbone=robust).prepare()
