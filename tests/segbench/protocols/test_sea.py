from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segbench.errors import SegbenchError
from segbench.protocols.sea import Sea


def test_the_short_side_is_resized_and_the_centre_cut() -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (20, 35, 3), dtype=np.uint8), rng.integers(0, 5, (20, 35)).astype(np.uint8)
    crops = Sea(size=10).crops(torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(labels))
    # 35 * 10 / 20 is 17.5, cut off to 17; (17 - 10) / 2 is 3.5, rounded to the even 4.
    picture = np.array(Image.fromarray(pixels).resize((17, 10), Image.Resampling.BILINEAR))[:, 4:14]
    mask = np.array(Image.fromarray(labels).resize((17, 10), Image.Resampling.NEAREST))[:, 4:14]
    assert torch.equal(crops.images[0], torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
    assert np.array_equal(crops.truth.numpy(), mask)
    assert torch.equal(crops.masks[0], crops.truth)


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (8, 8), (3, 50)])
def test_every_image_becomes_a_square(size: tuple[int, int]) -> None:
    crops = Sea(size=10).crops(torch.zeros(3, *size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8))
    assert crops.images.shape == (1, 3, 10, 10)
    assert crops.truth.shape == (10, 10)


def test_void_stays_where_it_is() -> None:
    mask = torch.full((6, 6), 255, dtype=torch.uint8)
    mask[:3] = 2
    crops = Sea(size=6).crops(torch.zeros(3, 6, 6, dtype=torch.uint8), mask)
    assert torch.equal(crops.truth, mask.long())
    assert (Sea().void, Sea().absent, Sea().scope) == ("background", "skip", "image")


def test_float_images_are_rounded_to_8_bits() -> None:
    pixels = torch.randint(0, 256, (3, 9, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(9, 12, dtype=torch.long)
    assert torch.equal(Sea(size=5).crops(pixels, mask).images, Sea(size=5).crops(pixels / 255, mask).images)


def test_the_prediction_is_the_networks(context: nn.Module) -> None:
    protocol = Sea(size=9)
    crops = protocol.crops(torch.full((3, 9, 9), 80, dtype=torch.uint8), torch.zeros(9, 9, dtype=torch.uint8))
    scores = protocol.scores(protocol.network(context), crops.images, attacked=True)
    with torch.no_grad():
        assert torch.equal(protocol.merge(scores, crops), context(crops.images)[0].argmax(0))


def test_impossible_options_are_errors() -> None:
    with pytest.raises(SegbenchError, match="sea-v2: 'size'"):
        Sea(size=0)
