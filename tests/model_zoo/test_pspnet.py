from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.pspnet import PyramidPooling, pspnet


def test_pyramid_pooling_averages_over_grids_and_keeps_the_features() -> None:
    torch.manual_seed(0)
    module = PyramidPooling(8, (1, 3), align_corners=False).eval()
    features = torch.rand(2, 8, 6, 9)
    with torch.no_grad():
        pooled = module(features)
    assert pooled.shape == (2, 16, 6, 9)
    assert module.channels == 16
    torch.testing.assert_close(pooled[:, :8], features)

    grid = features.view(2, 8, 3, 2, 3, 3).mean((3, 5))
    weight, eps = module.branches[1][1].weight, module.branches[1][2].eps
    reduced = torch.relu(torch.einsum("nchw,kc->nkhw", grid, weight[:, :, 0, 0]) / (1 + eps) ** 0.5)
    expected = F.interpolate(reduced, (6, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(pooled[:, 12:], expected)


def test_defaults_fit_the_encoder() -> None:
    assert pspnet(4, encoder="tiny").classifier[0].weight.shape == (48, 128, 3, 3)
    assert pspnet(4, encoder="resnet18").classifier[0].weight.shape == (512, 1024, 3, 3)
    assert pspnet(4, encoder="tiny", channels=32).classifier[0].weight.shape == (32, 128, 3, 3)


@pytest.mark.parametrize("bins", [(), (0, 1)])
def test_bins_have_to_be_positive(bins: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="bins must hold at least one number of cells, each at least 1"):
        pspnet(4, encoder="tiny", bins=bins)
