from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
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
        (np.full((2, 5, 7), "sky"), None, "mine returns an array of <U3; expected numbers"),
        (np.zeros((2, 5, 7), object), None, "mine returns an array of object; expected numbers"),
        (torch.zeros(2, 5, 7), None, "of labels in floats, say --access labels"),
    ],
)
def test_an_output_that_is_no_logits_says_so(output: Any, classes: Any, message: str) -> None:
    with pytest.raises(CellError, match=message):
        Adapter(lambda images: output, Convention(), 11, classes=classes, name="mine")(IMAGES)


LOGITS = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(2))
OTHER = torch.zeros(2, 3, 5, 7)


@pytest.mark.parametrize(
    ("output", "named", "note"),
    [
        ({"logits": LOGITS, "aux": OTHER}, None, "of the outputs logits, aux the logits are taken from 'logits'"),
        ({"logits": LOGITS}, None, None),
        ({"anything": LOGITS}, None, None),
        ((LOGITS, OTHER), None, "of 2 outputs the logits are taken from the first"),
        ([LOGITS, OTHER, OTHER], None, "of 3 outputs the logits are taken from the first"),
        ([LOGITS], None, None),
        (LOGITS.numpy().astype(">f4"), None, None),
        ((OTHER, LOGITS), "1", None),
        ({"out": OTHER, "fine": LOGITS}, "fine", None),
        (SimpleNamespace(logits=OTHER, fine=LOGITS), "fine", None),
    ],
)
def test_logits_among_several_outputs_are_found_or_named(output: Any, named: str | None, note: str | None) -> None:
    adapter = Adapter(lambda images: output, Convention(), 3, output=named)
    torch.testing.assert_close(adapter(IMAGES), LOGITS)
    assert list(adapter.notes) == ([] if note is None else [note])


@pytest.mark.parametrize(
    ("output", "named"), [({"out": OTHER}, "fine"), ((LOGITS, OTHER), "2"), (SimpleNamespace(logits=OTHER), "fine")]
)
def test_an_output_that_is_not_there_says_so(output: Any, named: str) -> None:
    with pytest.raises(CellError, match=f"has no output '{named}'"):
        Adapter(lambda images: output, Convention(), 3, output=named)(IMAGES)


def test_one_channel_is_the_logit_of_the_second_class() -> None:
    one = LOGITS[:, :1]
    for adapter in (
        Adapter(lambda images: one, Convention(), 2, binary=True),
        Adapter(lambda images: one, Convention(), 2, classes=[(), (0,)]),
    ):
        assert torch.equal(adapter(IMAGES).argmax(1), (one[:, 0] > 0).long())
    with pytest.raises(CellError, match="say --binary"):
        Adapter(lambda images: one, Convention(), 2)(IMAGES)
    with pytest.raises(CellError, match="--binary is for networks of one channel and two classes"):
        Adapter(lambda images: LOGITS, Convention(), 3, binary=True)(IMAGES)


def test_a_network_that_views_channels_last_images_works() -> None:
    class Views(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.view(len(images), -1).view(images.shape)

    images = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(Adapter(Views(), Convention(), 3)(images), images)
