from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.config.network import Convention
from segbench.datasets.base import Sample
from segbench.datasets.digits import Digits
from segbench.model_zoo.base import IMAGENET_MEAN, IMAGENET_STD
from segbench.networks import convention_check
from segbench.networks.adapter import Adapter
from segbench.protocols.whole import Whole

CPU = torch.device("cpu")
CAFFE = tuple(255 * value for value in IMAGENET_MEAN[::-1])
CONVENTIONS = {
    "plain": Convention(),
    "0-255": Convention(range="0-255"),
    "imagenet": Convention(mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "bgr": Convention(mean=IMAGENET_MEAN[::-1], std=IMAGENET_STD[::-1], channels="bgr"),
    "without std": Convention(range="0-255", mean=CAFFE, channels="bgr"),
}


class Patches:
    """Grey grounds with a red or a blue square, each a class of its own, and a void column."""

    classes = ("ground", "red", "blue")
    ignore_index = 255

    def split(self, name: str) -> list[Sample]:
        return [self.sample(index) for index in range(20)]

    def sample(self, index: int) -> Sample:
        draw = torch.Generator().manual_seed(index)
        image = torch.randint(90, 170, (1, 16, 16), generator=draw).repeat(3, 1, 1)
        mask = torch.zeros(16, 16, dtype=torch.uint8)
        for label, channel in ((1, 0), (2, 2)):
            top, left = torch.randint(0, 10, (2,), generator=draw).tolist()
            square = (slice(top, top + 6), slice(left, left + 6))
            mask[square] = label
            image[:, *square] = 60
            image[channel, *square] = 190
        mask[:, -1] = 255
        return Sample(str(index), image.to(torch.uint8), mask)


def trained(convention: Convention) -> nn.Module:
    """A small network, trained on images in a convention of its own."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 12, 1), nn.ReLU(), nn.Conv2d(12, 3, 1))
    samples = Patches().split("train")
    images = torch.stack([sample.image for sample in samples]).float() / 255
    masks = torch.stack([sample.mask for sample in samples]).long()
    shown: list[Tensor] = []
    Adapter(lambda inputs: shown.append(inputs) or inputs, convention, 3)(images)
    scale = shown[0].std()
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    with torch.no_grad():
        network[0].weight /= scale
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(network(shown[0]), masks, ignore_index=255).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {name: trained(convention) for name, convention in CONVENTIONS.items()}


def check(network: nn.Module, stated: Convention) -> convention_check.Doubt | None:
    data: Any = Patches()
    return convention_check.check(Adapter(network, stated, 3), data, "val", Whole(), device=CPU)


@pytest.mark.parametrize("name", list(CONVENTIONS))
def test_the_right_convention_is_not_doubted(networks: dict[str, nn.Module], name: str) -> None:
    assert check(networks[name], CONVENTIONS[name]) is None


@pytest.mark.parametrize(
    ("true", "stated"),
    [
        ("0-255", "plain"),
        ("plain", "imagenet"),
        ("imagenet", "plain"),
        ("imagenet", "bgr"),
        ("bgr", "imagenet"),
        ("without std", "plain"),
        ("without std", "imagenet"),
        ("without std", "0-255"),
    ],
)
def test_a_wrong_convention_is_doubted(networks: dict[str, nn.Module], true: str, stated: str) -> None:
    doubt = check(networks[true], CONVENTIONS[stated])
    assert doubt is not None
    assert doubt.convention.channels == CONVENTIONS[true].channels or true == "plain"
    assert check(networks[true], doubt.convention) is None
    message = str(convention_check.refuse("mine", CONVENTIONS[stated], doubt))
    assert f"mine scores {doubt.stated:.1f}" in message
    assert "--force" in message


def test_an_untrained_network_is_not_doubted() -> None:
    digits = Digits(size=24, dev=16)
    for seed in range(5):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 6, 1)).eval()
        assert convention_check.check(Adapter(network, Convention(), 6), digits, "dev", Whole(), device=CPU) is None, (
            seed
        )


def test_alternatives_all_differ_and_leave_out_the_stated_one() -> None:
    for stated in CONVENTIONS.values():
        others = [*convention_check.alternatives(stated), stated]
        assert len(others) == convention_check.CONVENTIONS
        ramp = torch.linspace(0, 1, 12).reshape(1, 3, 2, 2)
        shown: list[Tensor] = []
        for other in others:
            Adapter(lambda inputs, kept=shown: kept.append(inputs) or inputs, other, 3)(ramp)
        assert not any(torch.allclose(a, b, atol=1e-3) for a, b in itertools.combinations(shown, 2))


def test_a_dataset_of_one_image_is_too_little_to_doubt(networks: dict[str, nn.Module]) -> None:
    patches = Patches()
    data: Any = SimpleNamespace(split=lambda name: patches.split(name)[:1], classes=patches.classes, ignore_index=255)
    adapter = Adapter(networks["imagenet"], Convention(range="0-255"), 3)
    assert convention_check.check(adapter, data, "val", Whole(), device=CPU) is None


def test_the_best_map_of_one_class_has_the_score_of_its_pixels() -> None:
    truth = torch.tensor([[0, 0, 2], [255, 2, 2]])
    found = [convention_check._score(torch.full_like(truth, label), truth, 255) for label in range(3)]
    assert convention_check._best_constant(truth, 255) == pytest.approx(max(found))
    assert convention_check._best_constant(torch.full((2, 2), 255), 255) == 0


def test_a_network_that_is_fed_well_costs_one_image_for_each_convention(networks: dict[str, nn.Module]) -> None:
    calls: list[int] = []
    handle = networks["imagenet"].register_forward_hook(lambda module, inputs, logits: calls.append(len(logits)))
    try:
        assert check(networks["imagenet"], CONVENTIONS["imagenet"]) is None
    finally:
        handle.remove()
    assert sum(calls) <= 2 * 12
