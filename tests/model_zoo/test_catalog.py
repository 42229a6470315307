"""What every network keeps; a new file in `model_zoo` is tested by being there."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from segbench.components import catalog
from segbench.model_zoo.base import Segmenter

SMALL = {
    "pspnet": {"encoder": "tiny"},
    "deeplabv3": {"encoder": "tiny"},
    "smp": {"encoder": "tu-mobilenetv3_small_050"},
    "deeplabv3plus": {"encoder": "tu-mobilenetv3_small_050", "channels": 32},
    "segformer": {"encoder": "tu-test_convnext", "channels": 64},
    "segmenter": {"encoder": "tu-test_vit", "patch_size": 4, "size": 48, "drop_path": 0.0},
    "upernet": {"encoder": "tu-test_convnext", "channels": 32},
}
"""Options that make a network small enough for tests; others are tested with their defaults."""
LEARNING_RATES = {"segmenter": 1e-3}
"""Learning rates at which a network overfits in 50 steps, where that is not 4e-3."""

networks = pytest.mark.parametrize("name", catalog.components("model"))


def build(name: str, num_classes: int = 4) -> Segmenter:
    torch.manual_seed(0)
    network: Segmenter = catalog.find("model", name).object(num_classes, **SMALL.get(name, {}))
    return network


@networks
@pytest.mark.parametrize("size", [(48, 48), (37, 53), (1, 65)])
def test_logits_have_the_size_of_the_images(name: str, size: tuple[int, int]) -> None:
    network = build(name).eval()
    with torch.no_grad():
        logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 4, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@networks
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = build(name)
    images = torch.rand(2, 3, 40, 56)
    features = network.features(images)
    loss = network.classify(network.classifier, features.main, images).square().mean()
    if network.auxiliary is not None:
        assert features.auxiliary is not None
        loss = loss + network.classify(network.auxiliary, features.auxiliary, images).square().mean()
    loss.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@networks
def test_any_number_of_classes_can_be_classified_from_the_same_features(name: str) -> None:
    network = build(name)
    images = torch.rand(2, 3, 40, 56)
    features = network.features(images)
    for classes in (2, 4, 19):
        assert network.classify(network.make_classifier(classes), features.main, images).shape == (2, classes, 40, 56)


@networks
def test_an_image_s_logits_do_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    network = build(name).eval()
    images = torch.rand(3, 3, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[1:2], network(images[1:2]), rtol=1e-4, atol=1e-5)


@networks
def test_the_same_seed_builds_the_same_network_and_a_copy_is_independent(name: str) -> None:
    network, again = build(name), build(name)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert any(parameter.any() for parameter in network.parameters())


@networks
def test_it_overfits_two_images(name: str) -> None:
    network = build(name, num_classes=3)
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(2, 48, 48, dtype=torch.long)
    masks[0, 8:32, 16:40], masks[1, 16:48, :24] = 1, 2
    colours = torch.tensor([[0.1, 0.5, 0.2], [0.8, 0.2, 0.6], [0.3, 0.9, 0.9]])
    images = (colours[masks].permute(0, 3, 1, 2) + 0.1 * torch.rand(2, 3, 48, 48, generator=generator)).clamp(0, 1)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATES.get(name, 4e-3), fused=True)
    for _ in range(50):
        optimizer.zero_grad()
        F.cross_entropy(network(images), masks).backward()
        optimizer.step()
    with torch.no_grad():
        preds = network(images).argmax(1)
    assert (preds == masks).float().mean() > 0.97
