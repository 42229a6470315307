from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.config.network import Convention
from segbench.errors import CellError
from segbench.networks.adapter import ABSENT, Adapter

IMAGES = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))


def seen(convention: Convention, images: Tensor = IMAGES) -> Tensor:
    """What the network is shown, cut to the image."""
    shown = []

    def network(inputs: Tensor) -> Tensor:
        shown.append(inputs)
        return inputs

    Adapter(network, convention, 3)(images)
    return shown[0]


def test_images_arrive_in_the_stated_convention() -> None:
    mean, std = (104.0, 117.0, 123.0), (57.0, 58.0, 59.0)
    found = seen(Convention(range="0-255", mean=mean, std=std, channels="bgr"))
    for place, channel in enumerate((2, 1, 0)):
        expected = (IMAGES[:, channel] * 255 - mean[place]) / std[place]
        torch.testing.assert_close(found[:, place], expected)
    torch.testing.assert_close(seen(Convention()), IMAGES, rtol=0, atol=0)


def test_sizes_are_padded_below_and_right_and_logits_cut_back() -> None:
    convention = Convention(mean=(0.5, 0.5, 0.5), multiple=8, remainder=1)
    found = seen(convention)
    assert found.shape == (2, 3, 9, 9)
    assert not found[..., 5:, :].any()
    assert not found[..., 7:].any()
    logits = Adapter(lambda inputs: inputs, convention, 3)(IMAGES)
    torch.testing.assert_close(logits, IMAGES - 0.5)


@pytest.mark.parametrize(
    "wrap",
    [lambda logits: logits, lambda logits: {"out": logits, "aux": 0}, lambda logits: SimpleNamespace(logits=logits)],
)
def test_outputs_of_every_form_are_resized_and_differentiable(wrap: Any) -> None:
    images = IMAGES.clone().requires_grad_()
    logits = Adapter(lambda inputs: wrap(F.avg_pool2d(inputs, 2)), Convention(), 3)(images)
    expected = F.interpolate(F.avg_pool2d(IMAGES, 2), (5, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits.detach(), expected)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.abs().sum() > 0


def test_classes_take_the_largest_of_their_channels() -> None:
    logits = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1))
    found = Adapter(lambda images: logits, Convention(), 3, classes=[(4,), (0, 5), ()])(IMAGES)
    torch.testing.assert_close(found[:, 0], logits[:, 4])
    torch.testing.assert_close(found[:, 1], torch.maximum(logits[:, 0], logits[:, 5]))
    assert (found[:, 2] == ABSENT).all()
    assert not (found.argmax(1) == 2).any()


@pytest.mark.parametrize(
    ("output", "classes", "message"),
    [
        (torch.zeros(2, 21, 5, 7), None, "mine has 21 channels, the dataset 11 classes"),
        (torch.zeros(2, 4, 5, 7), [(4,)], "mine has 4 channels, but 'classes' names channel 4; they count from 0"),
        (torch.zeros(2, 11), None, r"mine returns a tensor \(2, 11\) for 2 image"),
        ({"masks": 1, "boxes": 2}, None, "mine returns a dict with masks, boxes, not logits"),
        ([1, 2], None, "mine returns a list of 2, not logits"),
    ],
)
def test_an_output_that_is_no_logits_says_so(output: Any, classes: Any, message: str) -> None:
    with pytest.raises(CellError, match=message):
        Adapter(lambda images: output, Convention(), 11, classes=classes, name="mine")(IMAGES)
