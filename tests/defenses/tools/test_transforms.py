"""Input transformations: what they do to images, and what an attacker sees of them."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from segbench.defenses.base import Wrapped
from segbench.defenses.bit_depth import bit_depth, quantise
from segbench.defenses.jpeg import compress, jpeg
from segbench.defenses.median import median, median_filter
from segbench.defenses.none import NoDefense
from segbench.defenses.tools.smooth_jpeg import smooth_jpeg
from segbench.defenses.tools.transforms import Substituted, Transformed

MAKERS = {"jpeg": jpeg, "bit-depth": bit_depth, "median": median}


def test_jpeg_equals_a_file_written_and_read(batch) -> None:
    images, _ = batch
    for image, compressed in zip(images, compress(images, 60), strict=True):
        array = np.rint(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(array).save(file, "JPEG", quality=60)
        expected = np.array(Image.open(io.BytesIO(file.getvalue())))
        assert np.array_equal(compressed.permute(1, 2, 0).numpy() * 255, expected)


def test_jpeg_of_low_quality_is_further_from_the_image() -> None:
    rows = torch.linspace(0, 1, 32)
    images = torch.stack([rows.expand(32, 32), rows.expand(32, 32).T, torch.full((32, 32), 0.5)])[None]
    fine, coarse = ((compress(images, quality) - images).abs().mean() for quality in (95, 10))
    assert fine < 0.01
    assert coarse > 2 * fine


def test_bit_depth_by_hand() -> None:
    values = torch.tensor([0.0, 0.2, 0.49, 0.51, 0.84, 1.0]).view(1, 1, 1, 6)
    assert torch.equal(quantise(values, 1).flatten(), torch.tensor([0.0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(quantise(values, 2).flatten(), torch.tensor([0.0, 1, 1, 2, 3, 3]) / 3)


def test_median_equals_scipys(batch) -> None:
    images, _ = batch
    for size in (1, 3, 5):
        expected = ndimage.median_filter(images.numpy(), size=(1, 1, size, size), mode="nearest")
        assert np.array_equal(median_filter(images, size).numpy(), expected)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (jpeg, {"quality": 0}, "quality must be 1 to 100, got 0"),
        (bit_depth, {"bits": 9}, "bits must be 1 to 8, got 9"),
        (median, {"size": 4}, "size must be odd and at least 1, got 4"),
    ],
)
def test_options_out_of_range_are_refused(make, options, message: str, segmenter) -> None:
    with pytest.raises(ValueError, match=message):
        make(segmenter, **options)


def test_without_a_stand_in_the_gradient_passes_straight_through() -> None:
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    weights = torch.randn(1, 3, 4, 4)
    (Substituted.apply(images, partial(quantise, bits=1), None) * weights).sum().backward()
    assert torch.equal(images.grad, weights)


def test_with_a_stand_in_the_value_is_the_transformations_and_the_gradient_the_stand_ins() -> None:
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    weights = torch.randn(1, 3, 4, 4)
    made = Substituted.apply(images, partial(quantise, bits=1), torch.square)
    assert torch.equal(made, quantise(images, 1))
    (made * weights).sum().backward()
    torch.testing.assert_close(images.grad, 2 * images.detach() * weights)


def test_network_sees_the_transformed_images_and_the_attacker_its_gradient_there(segmenter, batch) -> None:
    images, _ = batch
    segmenter.eval()
    network = Transformed(segmenter, partial(quantise, bits=2))
    given = images.clone().requires_grad_()
    inside = quantise(images, 2).requires_grad_()
    assert torch.equal(network(given), segmenter(inside))
    (through,) = torch.autograd.grad(network(given).logsumexp(1).sum(), given)
    (there,) = torch.autograd.grad(segmenter(inside).logsumexp(1).sum(), inside)
    assert torch.equal(through, there)


def test_adaptive_gradient_of_the_median_is_its_own(segmenter, batch) -> None:
    network = median(segmenter).deploy().eval()
    given, direct = (batch[0].clone().requires_grad_() for _ in range(2))
    (through,) = torch.autograd.grad(network(given).logsumexp(1).sum(), given)
    (own,) = torch.autograd.grad(segmenter(median_filter(direct, 3)).logsumexp(1).sum(), direct)
    torch.testing.assert_close(through, own)


@pytest.mark.parametrize("size", [(32, 48), (21, 30)])
@pytest.mark.parametrize("quality", [90, 50])
def test_smooth_jpeg_is_close_to_the_file(quality: int, size: tuple[int, int]) -> None:
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, n) for n in size), indexing="ij")
    images = torch.stack([0.2 + 0.5 * rows, 0.5 + 0.3 * torch.sin(9 * columns), 0.8 - 0.4 * rows * columns])[None]
    images = (images + 0.03 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    file = compress(images, quality)
    error = (smooth_jpeg(images, quality) - file).abs().mean()
    assert error < 0.3 * (images - file).abs().mean()


def test_smooth_jpeg_has_the_slope_of_the_cubic() -> None:
    """Along the mean of a grey image, which is one coefficient of a block over its table's entry."""
    step = 16 / (8 * 255)  # of the mean, for one unit of the first coefficient at quality 50

    def slope(units: float) -> float:
        images = torch.full((1, 3, 16, 16), 128 / 255 + units * step, requires_grad=True)
        smooth_jpeg(images, 50).mean().backward()
        return images.grad.sum().item()

    for units in (0.0, 0.25, 0.4, -0.4, 3.25):
        away = units - round(units)
        assert slope(units) == pytest.approx(3 * away**2, abs=2e-3)


@pytest.mark.parametrize("name", MAKERS)
def test_plain_network_is_the_one_that_no_defense_trains(name: str, make_segmenter, batch) -> None:
    weights: list[dict[str, Tensor]] = []
    for make in (NoDefense, MAKERS[name]):
        defense = make(make_segmenter()).train()
        optimizer = torch.optim.SGD(defense.parameters(), lr=0.1)
        torch.manual_seed(3)
        for _ in range(3):
            optimizer.zero_grad()
            defense.loss(*batch, torch.Generator()).total.backward()
            optimizer.step()
        deployed = defense.deploy()
        weights.append((deployed.plain if isinstance(deployed, Wrapped) else deployed).state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
