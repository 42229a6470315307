from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from segbench.config.matrix import Augmentation
from segbench.datasets.base import Clip, Sample
from segbench.model_zoo.base import IMAGENET_MEAN
from segbench.training.augment import augment, augment_clip

EVERYTHING = Augmentation(scale=(0.5, 2.0), rotate=10, blur=0.5, flip=0.5, crop=(33, 41))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coloured(height: int = 30, width: int = 40) -> Sample:
    """A sample whose every pixel says its label: red is 20 times the label."""
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (height // 10, width // 10))).to(torch.uint8)
    mask = mask.repeat_interleave(10, 0).repeat_interleave(10, 1)
    return Sample("a", torch.stack([mask * 20, mask * 0, mask * 0 + 255]), mask)


def mean_colour(image: Tensor) -> Tensor:
    return (image - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)).abs().amax(0) < 1e-5


def test_nothing_is_changed_by_default() -> None:
    sample = coloured()
    image, mask = augment(sample, Augmentation(), seeded(0))
    assert image.dtype == torch.float32
    assert mask.dtype == torch.int64
    assert torch.equal(image, sample.image / 255)
    assert torch.equal(mask, sample.mask.long())


@pytest.mark.parametrize("seed", range(5))
def test_the_same_generator_gives_the_same_bits_and_the_sample_stays(seed: int) -> None:
    sample = coloured()
    before = (sample.image.clone(), sample.mask.clone())
    first, second = augment(sample, EVERYTHING, seeded(seed)), augment(sample, EVERYTHING, seeded(seed))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(sample.image, before[0])
    assert torch.equal(sample.mask, before[1])


def test_global_random_state_is_neither_used_nor_changed() -> None:
    state = torch.get_rng_state()
    first = augment(coloured(), EVERYTHING, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(augment(coloured(), EVERYTHING, seeded(3))[0], first[0])


def test_turning_one_change_off_does_not_move_the_others() -> None:
    for seed in range(8):
        with_blur = augment(coloured(), EVERYTHING, seeded(seed))[1]
        without = augment(coloured(), EVERYTHING.model_copy(update={"blur": 0.0}), seeded(seed))[1]
        assert torch.equal(with_blur, without)


@pytest.mark.parametrize("seed", range(20))
def test_image_and_mask_stay_together(seed: int) -> None:
    change = EVERYTHING.model_copy(update={"blur": 0.0})
    image, mask = augment(coloured(), change, seeded(seed))
    assert image.shape == (3, 33, 41)
    assert mask.shape == (33, 41)
    assert image.min() >= 0
    assert image.max() <= 1
    assert set(mask.unique().tolist()) <= {0, 1, 2, 3, 4, 255}
    # Where the labels around a pixel are one, so are the colours that it was made of; the border may hide others.
    around = F.unfold(F.pad(mask[None].float(), (2, 2, 2, 2), value=-1), 5).view(25, 33, 41)
    inner = (around.amin(0) == around.amax(0)) & (mask != 255)
    assert inner.any()
    assert ((image[0] * 255 - 20 * mask)[inner].abs() < 1).all()


def test_padding_is_mean_colour_and_void_around_the_image() -> None:
    sample = coloured(10, 20)
    image, mask = augment(sample, Augmentation(crop=(13, 25)), seeded(0))
    inside = torch.zeros(13, 25, dtype=torch.bool)
    inside[1:11, 2:22] = True
    assert torch.equal(mask[1:11, 2:22], sample.mask.long())
    assert (mask[~inside] == 255).all()
    assert mean_colour(image)[~inside].all()


def test_every_place_of_a_crop_is_drawn() -> None:
    sample = Sample("a", torch.zeros(3, 4, 5, dtype=torch.uint8), torch.arange(20, dtype=torch.uint8).view(4, 5))
    corners = {int(augment(sample, Augmentation(crop=(3, 3)), seeded(seed))[1][0, 0]) for seed in range(60)}
    assert corners == {0, 1, 2, 5, 6, 7}


def test_flip_mirrors_left_and_right_with_its_probability() -> None:
    sample = coloured(10, 40)
    always = augment(sample, Augmentation(flip=1.0), seeded(0))
    assert torch.equal(always[0], (sample.image / 255).flip(2))
    assert torch.equal(always[1], sample.mask.long().flip(1))
    often = sum(
        torch.equal(augment(sample, Augmentation(flip=0.25), seeded(seed))[1], always[1]) for seed in range(200)
    )
    assert 30 < often < 70


def test_scale_is_between_its_bounds() -> None:
    sample = coloured(20, 40)
    sizes = {tuple(augment(sample, Augmentation(scale=(0.5, 1.5)), seeded(seed))[1].shape) for seed in range(300)}
    heights, widths = zip(*sizes, strict=True)
    assert (min(heights), max(heights)) == (10, 30)
    assert (min(widths), max(widths)) == (20, 60)


def test_rotation_keeps_the_centre_and_voids_the_corners() -> None:
    plain = Sample("a", torch.full((3, 41, 41), 7, dtype=torch.uint8), torch.full((41, 41), 2, dtype=torch.uint8))
    change = Augmentation(rotate=90, rotate_probability=1.0)
    images, masks = zip(*(augment(plain, change, seeded(seed)) for seed in range(10)), strict=True)
    assert all(mask[20, 20] == 2 for mask in masks)
    assert all((image[:, 20, 20] * 255 - 7).abs().max() < 1e-3 for image in images)
    assert any(mask[0, 0] == 255 for mask in masks)
    never = augment(plain, Augmentation(rotate=90, rotate_probability=0.0), seeded(0))
    assert (never[1] == 2).all()


def test_blur_is_opencvs_5x5_gaussian() -> None:
    dot = torch.zeros(3, 9, 9, dtype=torch.uint8)
    dot[:, 4, 4] = 255
    image, mask = augment(Sample("a", dot, dot[0] // 255), Augmentation(blur=1.0), seeded(0))
    weights = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.1**2))
    weights /= weights.sum()
    np.testing.assert_allclose(image[0, 2:7, 2:7].numpy(), np.outer(weights, weights), atol=1e-6)
    assert image[0].sum().item() == pytest.approx(1)
    assert torch.equal(mask, dot[0].long() // 255)


@pytest.mark.parametrize(
    "options",
    [{"scale": (2, 0.5)}, {"scale": (0, 1)}, {"flip": 2}, {"blur": -1}, {"crop": (0, 5)}, {"rotate": -3}, {"zoom": 1}],
)
def test_impossible_options_are_errors(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Augmentation(**options)


@pytest.mark.parametrize(
    "change", [{"flip": 1.0}, {"crop": (7, 9)}, {"crop": (30, 26)}, {"flip": 1.0, "crop": (9, 30)}]
)
def test_every_pixel_of_a_clip_keeps_its_ray(change: dict[str, object]) -> None:
    """A pixel's colour says where it was; the changed camera must look through it into the same or the mirrored way."""
    height, width = 12, 20
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    coded = torch.stack([rows / 100, columns / 100, torch.ones(height, width)])
    before = torch.tensor([[30.0, 0, 8], [0, 25, 6], [0, 0, 1]])
    frames, after = augment_clip(Clip(coded.repeat(3, 1, 1, 1), before), Augmentation(**change), seeded(4))
    assert frames.shape[2:] == change.get("crop", (height, width))
    assert torch.equal(frames[0], frames[2])
    rows, columns = torch.meshgrid(*(torch.arange(length) for length in frames.shape[2:]), indexing="ij")
    inside = frames[1, 2] == 1
    assert inside.any()
    down, across = (100 * frames[1, :2]).unbind(0)
    mirror = -1 if "flip" in change else 1
    torch.testing.assert_close(((columns - after[0, 2]) / 30)[inside], mirror * ((across - 8) / 30)[inside])
    torch.testing.assert_close(((rows - after[1, 2]) / 25)[inside], ((down - 6) / 25)[inside])


def test_a_clip_stays_as_it_is_without_flip_and_crop() -> None:
    clip = Clip(torch.rand(3, 3, 8, 8), torch.eye(3))
    frames, intrinsics = augment_clip(clip, Augmentation(scale=(0.5, 2), rotate=10, blur=1.0), seeded(0))
    assert torch.equal(frames, clip.frames)
    assert torch.equal(intrinsics, clip.intrinsics)
