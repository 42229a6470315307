from __future__ import annotations

import pytest
import torch

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.deeplabv3plus import SeparableDecoder, deeplabv3plus, separable


def test_a_separable_convolution_treats_channels_apart_first() -> None:
    depthwise = separable(4, 6, dilation=2)[0]
    images = torch.zeros(1, 4, 9, 9)
    images[0, 1, 4, 4] = 1
    answer = depthwise(images)[0]
    assert answer[[0, 2, 3]].abs().sum() == 0
    assert answer[1].nonzero().tolist() == [[y, x] for y in (2, 4, 6) for x in (2, 4, 6)]


def test_logits_have_a_quarter_of_the_size_before_they_are_resized() -> None:
    network = deeplabv3plus(3, encoder="tu-mobilenetv3_small_050", channels=16).eval()
    assert network.features(torch.rand(1, 3, 64, 96)).main.shape == (1, 16, 16, 24)


def test_what_does_not_go_together_is_said() -> None:
    with pytest.raises(ModelError, match="needs an encoder with a feature map of 1/4"):
        deeplabv3plus(3, encoder="tiny")
    with pytest.raises(ModelError, match="rates must hold at least one dilation"):
        SeparableDecoder(4, 4, 4, (), align_corners=False)
