from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.apgd import apgd
from segbench.evaluation.anticipating import Anticipating
from segbench.protocols.whole import Whole

EPS = 0.02


class Turning(nn.Module):
    """Tells red pixels; once it has learned from an image it goes by green too, less by the image's own colour."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))

    def forward(self, images: Tensor) -> Tensor:
        score = torch.einsum("nchw,c->nhw", images - 0.5, self.colour)
        return torch.stack([score, -score], 1)

    def adapt(self, images: Tensor) -> None:
        with torch.no_grad():
            self.colour += torch.tensor([0, 1.5, 0]) - (images - 0.5).mean((0, 2, 3))

    def reset(self) -> None:
        with torch.no_grad():
            self.colour.copy_(torch.tensor([1.0, 0.0, 0.0]))


def same(network: Any) -> nn.Module:
    found: nn.Module = network
    return found


@pytest.fixture
def images() -> Tensor:
    return 0.5 + 0.04 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def test_it_answers_as_the_network_will_and_leaves_it_alone(images: Tensor) -> None:
    network = Turning()
    answered = Anticipating(network, same)(images)
    assert torch.equal(network.colour, Turning().colour)
    network.adapt(images)
    assert torch.equal(answered, network(images))


def test_the_gradient_is_that_of_the_network_that_answers(images: Tensor) -> None:
    network = Turning()
    seen = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Anticipating(network, same)(seen)[:, 0].sum(), seen)
    network.adapt(images)
    assert torch.allclose(gradient, network.colour.detach().view(1, 3, 1, 1).expand_as(images))


def test_a_protocol_sees_the_network_that_has_learned(images: Tensor) -> None:
    network = Turning()
    through = Anticipating(network, Whole().network)(images)
    assert torch.equal(through, Anticipating(network, same)(images))


def test_whoever_anticipates_leaves_less(images: Tensor) -> None:
    network = Turning()
    adapted = copy.deepcopy(network)
    adapted.adapt(images)
    masks = adapted(images).argmax(1)

    def right(seen: nn.Module) -> int:
        made = apgd(seen, images, masks, eps=EPS, steps=20, loss="masked-ce")
        scored = Turning()
        scored.adapt(made)
        return int((scored(made).argmax(1) == masks).sum())

    as_it_stands, as_it_will = right(network), right(Anticipating(network, same))
    assert as_it_will < as_it_stands
