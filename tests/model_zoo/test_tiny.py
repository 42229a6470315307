from __future__ import annotations

import pytest
import torch
from torch import nn

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.tiny import TinyEncoder


@pytest.mark.parametrize(("output_stride", "size"), [(8, (6, 9)), (16, (3, 5))])
def test_the_last_stage_is_dilated_at_output_stride_8_and_strided_at_16(
    output_stride: int, size: tuple[int, int]
) -> None:
    third, fourth = TinyEncoder((4, 6, 8, 10), output_stride=output_stride)(torch.rand(1, 3, 48, 72))
    assert third.shape == (1, 8, 6, 9)
    assert fourth.shape == (1, 10, *size)


def test_convolutions_before_normalisation_have_no_bias() -> None:
    assert all(module.bias is None for module in TinyEncoder().modules() if isinstance(module, nn.Conv2d))


def test_four_widths_are_asked_for() -> None:
    with pytest.raises(ModelError, match="needs four widths, one per stage, got 3"):
        TinyEncoder((16, 24, 48))
