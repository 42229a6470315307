from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import Features, ModelError, Segmenter
from segbench.model_zoo.pspnet import pspnet


class Spy(nn.Module):
    """A trunk that keeps what it was given and returns it at an eighth of the size."""

    def forward(self, images: Tensor) -> Features:
        self.seen = images
        return Features(images[..., ::8, ::8], images[..., ::4, ::4])


def spied(**options: int | bool) -> tuple[Segmenter, Spy]:
    torch.manual_seed(0)
    trunk = Spy()
    return Segmenter(trunk, lambda classes: nn.Conv2d(3, classes, 1), 4, auxiliary=nn.Conv2d(3, 4, 1), **options), trunk


@pytest.mark.parametrize(
    ("divisor", "remainder", "size", "padded"),
    [
        (1, 0, (13, 21), (13, 21)),
        (8, 0, (16, 24), (16, 24)),
        (8, 0, (13, 25), (16, 32)),
        (8, 1, (17, 9), (17, 9)),
        (8, 1, (16, 10), (17, 17)),
        (32, 0, (1, 33), (32, 64)),
    ],
)
def test_images_are_padded_below_and_right_with_the_mean_colour(
    divisor: int, remainder: int, size: tuple[int, int], padded: tuple[int, int]
) -> None:
    segmenter, trunk = spied(divisor=divisor, remainder=remainder)
    images = torch.rand(2, 3, *size)
    logits = segmenter(images)
    assert logits.shape == (2, 4, *size)
    assert trunk.seen.shape[-2:] == padded

    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    canvas = mean.expand(2, 3, *padded).clone()
    canvas[..., : size[0], : size[1]] = images
    torch.testing.assert_close(trunk.seen, (canvas - mean) / std)


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_resized_to_the_padded_size_and_cut(align_corners: bool) -> None:
    segmenter, trunk = spied(divisor=8, remainder=1, align_corners=align_corners)
    images = torch.rand(1, 3, 20, 30)
    logits = segmenter(images)
    small = segmenter.classifier(trunk.seen[..., ::8, ::8])
    expected = F.interpolate(small, (25, 33), mode="bilinear", align_corners=align_corners)[..., :20, :30]
    torch.testing.assert_close(logits, expected)
    if align_corners:
        torch.testing.assert_close(logits[..., ::8, ::8], small[..., :3, :4])


def test_the_auxiliary_classifier_gives_logits_of_the_images_size() -> None:
    segmenter, _ = spied(divisor=8)
    images = torch.rand(2, 3, 20, 30)
    features = segmenter.features(images)
    assert segmenter.auxiliary is not None
    assert features.auxiliary is not None
    assert segmenter.classify(segmenter.auxiliary, features.auxiliary, images).shape == (2, 4, 20, 30)


def test_logits_are_contiguous_whatever_the_format_of_the_network() -> None:
    segmenter, _ = spied(divisor=8)
    images = torch.rand(2, 3, 24, 16).to(memory_format=torch.channels_last)
    assert segmenter.to(memory_format=torch.channels_last)(images).is_contiguous()


def test_normalisation_is_no_part_of_the_weights() -> None:
    segmenter, _ = spied()
    assert not {"mean", "std"} & segmenter.state_dict().keys()


def test_a_network_is_rebuilt_by_a_second_call_of_its_factory() -> None:
    torch.manual_seed(0)
    first, second = (pspnet(3, encoder="tiny", widths=(4, 4, 6, 8), channels=4) for _ in range(2))
    torch.manual_seed(0)
    again = pspnet(3, encoder="tiny", widths=(4, 4, 6, 8), channels=4)
    rebuilt = copy.deepcopy(again).rebuild()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())
    assert second.state_dict().keys() == rebuilt.state_dict().keys()
    assert all(torch.equal(value, rebuilt.state_dict()[key]) for key, value in second.state_dict().items())
    assert not torch.equal(first.classifier[0].weight, second.classifier[0].weight)


def test_a_rebuilt_network_loads_its_encoder_again(tmp_path: Path) -> None:
    torch.save(pspnet(3, encoder="tiny", auxiliary=False).trunk.encoder.state_dict(), tmp_path / "encoder.pth")
    network = pspnet(3, encoder="tiny", weights=str(tmp_path / "encoder.pth"))
    rebuilt = network.rebuild()
    encoder = rebuilt.trunk.encoder.state_dict()
    assert all(torch.equal(value, encoder[key]) for key, value in network.trunk.encoder.state_dict().items())
    assert not torch.equal(network.classifier[0].weight, rebuilt.classifier[0].weight)


def test_a_network_of_no_factory_says_so() -> None:
    with pytest.raises(ModelError, match="cannot be built a second time"):
        spied()[0].rebuild()
