from __future__ import annotations

import pytest
import torch

from segbench.model_zoo.deepstem import DeepStemResNet50


@pytest.mark.parametrize(("output_stride", "size"), [(8, (5, 7)), (16, (3, 4))])
def test_corners_stay_on_corners(output_stride: int, size: tuple[int, int]) -> None:
    with torch.no_grad():
        third, fourth = DeepStemResNet50(output_stride=output_stride)(torch.rand(1, 3, 33, 49))
    assert third.shape == (1, 1024, 3 if output_stride == 16 else 5, 4 if output_stride == 16 else 7)
    assert fourth.shape == (1, 2048, *size)


def test_every_3x3_convolution_of_a_dilated_stage_is_dilated() -> None:
    network = DeepStemResNet50()
    dilations = {
        stage: {block.conv2.dilation for block in getattr(network, stage)}
        for stage in ("layer1", "layer2", "layer3", "layer4")
    }
    assert dilations == {"layer1": {(1, 1)}, "layer2": {(1, 1)}, "layer3": {(2, 2)}, "layer4": {(4, 4)}}
