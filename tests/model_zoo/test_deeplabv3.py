from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.deeplabv3 import AtrousPooling, deeplabv3


def test_atrous_pooling_sets_branches_side_by_side() -> None:
    torch.manual_seed(0)
    module = AtrousPooling(6, 4, (1, 3)).eval()
    features = torch.rand(2, 6, 7, 9)
    with torch.no_grad():
        pooled = module(features)
        assert pooled.shape == (2, 16, 7, 9)
        assert module.channels == 16
        scale = (1 + module.branches[0][1].eps) ** -0.5
        point, near, far, image = (
            branch[1 if place == 3 else 0].weight for place, branch in enumerate(module.branches)
        )
        expected = [
            F.conv2d(features, point),
            F.conv2d(features, near, padding=1),
            F.conv2d(features, far, padding=3, dilation=3),
            F.conv2d(features.mean((2, 3), keepdim=True), image).expand(2, 4, 7, 9),
        ]
    torch.testing.assert_close(pooled, torch.relu(torch.cat(expected, 1) * scale))


def test_defaults_fit_the_encoder() -> None:
    def rates(network: torch.nn.Module) -> list[int]:
        return [branch[0].dilation[0] for branch in network.trunk.context.branches[1:-1]]

    assert rates(deeplabv3(4, encoder="tiny")) == [1, 2, 3]
    assert rates(deeplabv3(4, encoder="tiny", rates=(2, 4))) == [2, 4]
    assert rates(deeplabv3(4, encoder="resnet18")) == [6, 12, 18]
    assert deeplabv3(4, encoder="tiny").classifier[0].weight.shape == (48, 5 * 48, 1, 1)
    assert deeplabv3(4, encoder="resnet18").classifier[0].weight.shape == (256, 5 * 256, 1, 1)


@pytest.mark.parametrize("rates", [(), (0, 1)])
def test_rates_have_to_be_positive(rates: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="rates must hold at least one dilation, each at least 1"):
        deeplabv3(4, encoder="tiny", rates=rates)
