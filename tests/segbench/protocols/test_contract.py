"""What every protocol in the catalog promises."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.components import catalog, specs
from segbench.protocols.base import Absent, EvaluationProtocol, Void

NAMES = sorted(catalog.components("protocol"))
SMALL = {"ddcat-crop-v1": "ddcat-crop-v1(size=40, crop=17)", "sea-v2": "sea-v2(size=16)"}


@pytest.fixture(
    params=[*NAMES, "whole-v1(size=[12, 20])", "whole-v1(window=[9, 9])", "ddcat-crop-v1(size=[20, 30], crop=17)"]
)
def protocol(request: pytest.FixtureRequest) -> EvaluationProtocol:
    made: EvaluationProtocol = specs.bound("protocol", SMALL.get(request.param, request.param)).make()
    return made


def sample(height: int, width: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(height)
    image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    return image, torch.from_numpy(rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (height, width)))


@pytest.mark.parametrize("size", [(21, 30), (40, 13), (5, 5)])
def test_crops(protocol: EvaluationProtocol, size: tuple[int, int]) -> None:
    image, mask = sample(*size)
    before = image.clone(), mask.clone()
    crops = protocol.crops(image, mask)
    assert torch.equal(image, before[0])
    assert torch.equal(mask, before[1])
    assert crops.images.dtype == torch.float32
    assert crops.masks.dtype == crops.truth.dtype == torch.int64
    assert crops.images.shape == (len(crops.masks), 3, *crops.masks.shape[1:])
    assert crops.images.min() >= 0
    assert crops.images.max() <= 1
    for labels in (crops.masks, crops.truth):
        assert set(labels.unique().tolist()) <= {0, 1, 2, 3, 255}


@pytest.mark.parametrize("attacked", [False, True])
def test_predictions(protocol: EvaluationProtocol, context: nn.Module, attacked: bool) -> None:
    crops = protocol.crops(*sample(21, 30))
    scores = protocol.scores(context, crops.images, attacked=attacked)
    assert not scores.requires_grad
    assert scores.shape == (len(crops.images), 4, *crops.images.shape[2:])
    preds = protocol.merge(scores, crops)
    assert preds.shape == crops.truth.shape
    assert preds.dtype == torch.int64
    one_by_one = [protocol.scores(context, image[None], attacked=attacked) for image in crops.images]
    torch.testing.assert_close(torch.cat(one_by_one), scores)


def test_the_attacked_network_gives_logits_and_gradients(protocol: EvaluationProtocol, context: nn.Module) -> None:
    crops = protocol.crops(*sample(21, 30))
    images = crops.images.clone().requires_grad_(True)
    logits = protocol.network(context)(images)
    assert logits.shape == (len(images), 4, *images.shape[2:])
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert (gradient.abs().amax(1) > 0).float().mean() > 0.99


def test_the_conventions_are_stated(protocol: EvaluationProtocol) -> None:
    assert protocol.absent in get_args(Absent)
    assert protocol.void in get_args(Void)
    assert protocol.scope in ("image", "crop")
