"""A faster copy of a network is run for those kinds of images alone for which both answer alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import segbench
from segbench.evaluation import opened
from segbench.networks.agreeing import Instead, alike


def test_classes_that_a_network_does_not_know_hide_no_difference() -> None:
    logits = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    logits[:, 3] = -1e4
    assert alike(logits * (1 + 1e-6), logits)
    assert not alike(logits + 0.1, logits)
    assert not alike(logits * float("nan"), logits)


class Paths(nn.Module):
    """A network that leaves its batch normalisation out for some images."""

    def __init__(self, leaves_out: Callable[[Tensor], bool]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
        nn.init.uniform_(self.norm.running_var, 0.1, 0.3)
        self.leaves_out = leaves_out

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images)
        logits: Tensor = self.last(features if self.leaves_out(images) else self.norm(features))
        return logits


def test_each_kind_of_images_goes_through_both_once() -> None:
    images = torch.rand(3, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    network = nn.Conv2d(3, 2, 1)
    agreed: dict[str, bool] = {}
    seen: list[int] = []
    run = Instead(
        network, lambda images: network(images), lambda own: seen.append(len(own)) or network(own), agreed, lambda: None
    )
    for own in (images, images[:2], images[:1], images[..., :6]):
        torch.testing.assert_close(run(own), network(own))
    assert seen == [3, 2, 1, 3]
    assert agreed == {"8x10 each": True, "8x10": True, "8x6 each": True}
    other = Instead(network, lambda images: network(images) + 1, lambda images: network(images) + 1, {}, lambda: None)
    torch.testing.assert_close(other(images), network(images))


def leaves_out_batches(images: Tensor) -> bool:
    return len(images) > 1


def leaves_out_wide(images: Tensor) -> bool:
    return images.shape[-1] > 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of images of three sizes."""
    source = np.random.default_rng(0)
    (tmp_path / "dataset.yaml").write_text("classes: [one, other]\n")
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (tmp_path / kind / split).mkdir(parents=True)
    for number, width in enumerate((32, 32, 48, 48, 40)):
        image = source.integers(0, 256, (32, width, 3), dtype=np.uint8)
        for split in ("train", "val"):
            Image.fromarray(image).save(tmp_path / "images" / split / f"{number}.png")
            Image.fromarray(image[..., 0] // 128).save(tmp_path / "masks" / split / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("leaves_out", [leaves_out_batches, leaves_out_wide])
def test_records_are_those_of_the_network_itself(
    leaves_out: Callable[[Tensor], bool],
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scores() -> list[object]:
        store = tmp_path_factory.mktemp("store")
        result = segbench.evaluate(
            Paths(leaves_out), "folder", ["clean", "bim(steps=2)"], data=folder, store=store, force=True
        )
        return [record.scores for record in result.records]

    found = scores()
    monkeypatch.setattr(opened, "foldable", lambda network, images: [])
    assert found == scores()
    assert None not in found
