from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.budget import BudgetExceeded
from segbench.components import specs
from segbench.errors import SegbenchError
from segbench.protocols.ddcat_crop import DdcatCrop
from segbench.tensors import predict

PROTOCOLS = ["whole-v1", "whole-v1(size=[18, 26])", "whole-v1(window=[9, 9])", "ddcat-crop-v1(size=40, crop=17)"]


@pytest.fixture
def image() -> Tensor:
    """Smooth, so that resizing changes few predictions."""
    coarse = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 3, 4, 5)))
    return F.interpolate(coarse, (21, 30), mode="bilinear")[0].to(torch.uint8)


@pytest.fixture
def mask(context: nn.Module, image: Tensor) -> Tensor:
    """What the network predicts, so that an attack has everything to lose; with some void."""
    labels = predict(context, image)
    labels[:4] = 255
    return labels


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_label_map_of_the_images_size(context: nn.Module, image: Tensor, mask: Tensor, protocol: str) -> None:
    clean = predict(context, image, protocol=protocol)
    attacked = predict(context, image, protocol=protocol, masks=mask, attack="bim(steps=4, eps=0.1, alpha=0.05)")
    assert clean.shape == attacked.shape == (21, 30)
    valid = mask != 255
    assert (attacked == mask)[valid].float().mean() < (clean == mask)[valid].float().mean() - 0.1


def test_sea_gives_its_square(context: nn.Module, image: Tensor) -> None:
    assert predict(context, image, protocol="sea-v2(size=12)").shape == (12, 12)


def test_crops_are_attacked_one_by_one_in_effect(context: nn.Module, image: Tensor, mask: Tensor) -> None:
    protocol = DdcatCrop(size=40, crop=17)
    assert len(protocol.crops(image, mask).images) > 4
    made = specs.bound("attack", "pgd(steps=3, eps=0.05)").attack()
    maps = [
        predict(context, image, protocol=protocol, masks=mask, attack=made, batch=batch, seed=7) for batch in (1, 4, 99)
    ]
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])


def test_clean_and_no_attack_are_the_same(context: nn.Module, image: Tensor, mask: Tensor) -> None:
    for protocol in PROTOCOLS:
        first = predict(context, image, protocol=protocol)
        assert torch.equal(predict(context, image, protocol=protocol, masks=mask, attack="clean"), first)
        assert torch.equal(predict(context, image / 255, protocol=protocol), first)


def test_the_network_is_left_as_it_was(context: nn.Module, image: Tensor, mask: Tensor) -> None:
    context.train()
    state = torch.get_rng_state()
    predict(context, image, protocol="whole-v1(window=[9, 9])", masks=mask, attack="pgd(steps=2)")
    assert context.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in context.parameters())


def test_an_attack_that_breaks_its_budget_is_not_scored(context: nn.Module, image: Tensor, mask: Tensor) -> None:
    @attack("cheat")
    def cheat(model: nn.Module, images: Tensor, masks: Tensor, *, eps: float = 0.01) -> Tensor:
        return images.clamp(max=0.5)

    with pytest.raises(BudgetExceeded):
        predict(context, image, masks=mask, attack=cheat.bind())


def test_mistakes_are_named(context: nn.Module, image: Tensor, mask: Tensor) -> None:
    with pytest.raises(SegbenchError, match="an attack needs masks"):
        predict(context, image, attack="bim")
    with pytest.raises(SegbenchError, match=r"image is \(3, height, width\), got \(1, 3, 21, 30\)"):
        predict(context, image[None])
    with pytest.raises(SegbenchError, match=r"masks is \(21, 30\) as the image, got \(21, 29\)"):
        predict(context, image, masks=mask[:, 1:], attack="bim")
    with pytest.raises(SegbenchError, match="did you mean 'whole-v1'"):
        predict(context, image, protocol="whole")
