"""Resizing gives the bits of torchvision, which takes two seconds to import."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as TF

from segbench.datasets.tools.resizing import resized_images, resized_map


@pytest.mark.parametrize("size", [(20, 31), (60, 47), (33, 90), (1, 5)])
def test_as_torchvision(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    bytes_ = torch.randint(256, (2, 3, 47, 60), dtype=torch.uint8)
    for images in (bytes_, bytes_[0], bytes_[0].permute(1, 2, 0).contiguous().permute(2, 0, 1), bytes_[0] / 255):
        assert torch.equal(resized_images(images, size), TF.resize(images, list(size), antialias=True))
    soft = bytes_[0] / 255
    assert torch.equal(resized_images(soft, size, antialias=False), TF.resize(soft, list(size), antialias=False))
    nearest = TF.InterpolationMode.NEAREST_EXACT
    for values in (bytes_[0, :1], soft[:1]):
        assert torch.equal(resized_map(values[0], size)[None], TF.resize(values, list(size), interpolation=nearest))
