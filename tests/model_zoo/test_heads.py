from __future__ import annotations

import pytest
import torch
from torch import nn

from segbench.components import specs
from segbench.model_zoo.heads import AUX_CHANNELS, classifier, joined
from segbench.model_zoo.pspnet import pspnet


def test_a_classifier_keeps_the_size_and_drops_whole_channels() -> None:
    torch.manual_seed(0)
    head = classifier(6, 50, 3, dropout=0.5)
    assert head(torch.rand(4, 6, 5, 7)).shape == (4, 3, 5, 7)
    dropped = head[3](torch.ones(4, 50, 5, 7))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped.amin((2, 3)), dropped.amax((2, 3)))


def test_the_auxiliary_classifier_reads_stage_3_and_is_no_wider_than_the_main_one() -> None:
    network = pspnet(4, encoder="tiny", channels=20, widths=(4, 6, 10, 12))
    assert network.auxiliary[0].weight.shape == (20, 10, 3, 3)
    assert pspnet(4, encoder="resnet18").auxiliary[0].weight.shape == (AUX_CHANNELS, 256, 3, 3)
    assert pspnet(4, encoder="tiny", auxiliary=False).auxiliary is None


def test_a_fresh_classifier_has_the_shape_of_the_main_one_and_other_weights() -> None:
    network = pspnet(4, encoder="tiny")
    fresh = network.make_classifier(4)
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in network.classifier.parameters()]
    assert not torch.equal(fresh[0].weight, network.classifier[0].weight)
    assert network.make_classifier(2)[4].out_channels == 2


def test_maps_are_joined_in_channels_last_if_one_lies_so() -> None:
    first, second = torch.rand(2, 3, 4, 5), torch.rand(2, 6, 4, 5)
    last = second.contiguous(memory_format=torch.channels_last)
    for parts, ordered in (([first, second], False), ([first, last], True), ([last, first], True)):
        found = joined(parts)
        assert torch.equal(found, torch.cat(parts, 1))
        assert found.is_contiguous(memory_format=torch.channels_last) == ordered


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3", "deeplabv3plus", "upernet"])
def test_no_convolution_of_a_network_in_channels_last_copies_its_input(name: str) -> None:
    network = specs.bound("model", f"{name}(encoder=resnet18)").make(num_classes=3).eval()
    network.to(memory_format=torch.channels_last)
    copied = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if not inputs[0].is_contiguous(memory_format=torch.channels_last):
            copied.append(module)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(look)
    network(torch.rand(1, 3, 72, 80).contiguous(memory_format=torch.channels_last))
    assert copied == []
