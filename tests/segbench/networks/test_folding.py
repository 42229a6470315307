from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segbench.components import specs
from segbench.networks.folding import foldable, folded

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def settled(network: nn.Module) -> nn.Module:
    """Return a network whose batch normalisations do something, in eval mode."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for own in (module.weight, module.bias, module.running_mean, module.running_var):
                if own is not None:
                    own.data.uniform_(0.5, 1.5, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("spec", ["pspnet(encoder=resnet18)", "deeplabv3(encoder=tiny)"])
def test_a_folded_network_is_the_same_function(spec: str) -> None:
    torch.manual_seed(0)
    network = settled(specs.bound("model", spec).make(num_classes=4))
    pairs = foldable(network, IMAGES)
    assert pairs
    before = {name: value.clone() for name, value in network.state_dict().items()}
    exact, fast = network.double(), folded(network.float(), pairs).double()
    inputs = [IMAGES.double().requires_grad_() for _ in range(2)]
    answers = [one(own) for one, own in zip((exact.double(), fast), inputs, strict=True)]
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-6)
    gradients = [
        torch.autograd.grad(answer.square().sum(), own)[0] for answer, own in zip(answers, inputs, strict=True)
    ]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6 * float(gradients[0].abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in network.float().state_dict().items())
    left = [module for module in fast.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(left) == sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) - len(pairs)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)


class UsedTwice(Parts):
    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images)
        return self.last(self.norm(features) + features)


class NormFirst(Parts):
    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(images).relu()))


class SharedNorm(Parts):
    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(images)) + self.norm(self.first(images).relu()))


class Detached(Parts):
    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images)
        return self.last(self.norm(features) * features.detach())


class CalledTwice(Parts):
    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(images)) + self.norm(self.first(1 - images)))


@pytest.mark.parametrize(
    ("kind", "number"), [(UsedTwice, 0), (NormFirst, 0), (SharedNorm, 0), (Detached, 0), (CalledTwice, 1)]
)
def test_only_what_goes_nowhere_else_is_folded(kind: type[nn.Module], number: int) -> None:
    torch.manual_seed(0)
    network = settled(kind())
    pairs = foldable(network, IMAGES)
    assert len(pairs) == number
    torch.testing.assert_close(folded(network, pairs)(IMAGES), network(IMAGES))


def test_networks_that_cannot_be_looked_into_stay_as_they_are() -> None:
    class Blind(Parts):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return self.last(self.norm(self.first(images)))

    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise ValueError("of another size")

    class Uncopied(Parts):
        def forward(self, images: Tensor) -> Tensor:
            return self.last(self.norm(self.first(images)))

        def __deepcopy__(self, memo: object) -> nn.Module:
            return self

    class OptimizedModule(NormFirst):  # as torch.compile calls its own
        def forward(self, images: Tensor) -> Tensor:
            return self.last(self.norm(self.first(images)))

    watched = settled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    watched[0].register_forward_hook(lambda module, inputs, output: None)
    for network in (settled(Blind()), Broken(), watched, settled(Uncopied()), settled(OptimizedModule())):
        assert foldable(network, IMAGES) == []
