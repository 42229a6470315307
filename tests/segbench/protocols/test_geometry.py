from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segbench.model_zoo.base import IMAGENET_MEAN
from segbench.protocols.geometry import pad_image, pad_mask, resize, resize_image, resize_mask, unit, windows

SIZES = [
    ((375, 500), (384, 512)),
    ((500, 333), (512, 341)),
    ((281, 500), (288, 512)),
    ((7, 5), (3, 11)),
    ((9, 9), (9, 1)),
]


def bilinear(image: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Slow reference: half-pixel centres, the border repeated, no antialiasing."""
    made = np.empty((image.shape[0], *size))
    for row in range(size[0]):
        for column in range(size[1]):
            y = (row + 0.5) * image.shape[1] / size[0] - 0.5
            x = (column + 0.5) * image.shape[2] / size[1] - 0.5
            top, left = int(np.floor(y)), int(np.floor(x))
            rows = np.clip([top, top + 1], 0, image.shape[1] - 1)
            columns = np.clip([left, left + 1], 0, image.shape[2] - 1)
            four = image[:, rows][:, :, columns]
            made[:, row, column] = np.array([1 - (y - top), y - top]) @ four @ np.array([1 - (x - left), x - left])
    return made


@pytest.mark.parametrize(("have", "want"), [((7, 5), (3, 11)), ((9, 9), (9, 1)), ((12, 8), (5, 5)), ((4, 6), (13, 9))])
def test_resize_is_bilinear_with_half_pixel_centres_and_no_antialiasing(
    have: tuple[int, int], want: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).random((3, *have))
    ours = resize(torch.from_numpy(image), want)
    np.testing.assert_allclose(ours.numpy(), bilinear(image, want), atol=1e-12)
    assert torch.equal(resize(torch.from_numpy(image)[None], want)[0], ours)


@pytest.mark.parametrize(("have", "want"), SIZES)
def test_resize_is_opencvs_inter_linear(have: tuple[int, int], want: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    image = np.random.default_rng(0).integers(0, 256, (*have, 3)).astype(np.float32)
    theirs = cv2.resize(image, want[::-1], interpolation=cv2.INTER_LINEAR)
    ours = resize(torch.from_numpy(image).permute(2, 0, 1), want).permute(1, 2, 0)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=0.05)


def test_resize_mask_is_opencvs_inter_nearest() -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    pairs = [(have, want) for have in range(1, 90, 4) for want in range(1, 140, 3)]
    for have, want in [*pairs, (375, 512), (500, 341), (2048, 1024), (1024, 512), (512, 375), (333, 500)]:
        mask = np.arange(have, dtype=np.float32)[None]
        theirs = cv2.resize(mask, (want, 1), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(resize_mask(torch.from_numpy(mask), (1, want)).numpy(), theirs), (have, want)


def test_resize_mask_takes_the_pixel_towards_the_origin() -> None:
    mask = torch.arange(6).view(2, 3)
    assert resize_mask(mask, (4, 6)).tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert resize_mask(torch.arange(10)[None], (1, 4)).tolist() == [[0, 2, 5, 7]]
    assert resize_mask(mask, (2, 3)).tolist() == mask.tolist()


def test_images_stay_in_the_unit_interval() -> None:
    white = torch.full((3, 11, 13), 255, dtype=torch.uint8)
    for size in [(7, 29), (23, 5), (11, 13)]:
        image = resize_image(white, size)
        assert image.dtype == torch.float32
        assert image.shape == (3, *size)
        assert image.max() <= 1
        assert image.min() > 0.999
    assert torch.equal(unit(white), torch.ones(3, 11, 13))
    half = torch.full((3, 2, 2), 0.5)
    assert torch.equal(unit(half), half)


def test_padding_is_mean_colour_and_void_and_keeps_the_image() -> None:
    image, mask = torch.rand(2, 3, 4, 5), torch.arange(20).view(4, 5)
    padded, labels = pad_image(image, (9, 8), (2, 1)), pad_mask(mask, (9, 8), (2, 1))
    outside = torch.ones(9, 8, dtype=torch.bool)
    outside[2:6, 1:6] = False
    assert torch.equal(padded[..., 2:6, 1:6], image)
    assert torch.equal(labels[2:6, 1:6], mask)
    assert (labels[outside] == 255).all()
    for channel, mean in enumerate(IMAGENET_MEAN):
        assert (padded[:, channel, outside] == torch.tensor(mean)).all()


def test_gradients_flow_through_padding() -> None:
    image = torch.rand(1, 3, 4, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad((pad_image(image, (6, 7), (1, 1)) * 3).sum(), image)
    assert (gradient == 3).all()


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((473, 512), 473, 316), ((512, 1024), 449, 300), ((10, 10), 10, 7), ((17, 31), 8, 5), ((16, 16), 8, 8)],
)
def test_windows_cover_everything_and_end_at_the_border(size: tuple[int, int], window: int, stride: int) -> None:
    corners = windows(size, (window, window), (stride, stride))
    count = torch.zeros(size)
    for top, left in corners:
        assert 0 <= top <= size[0] - window
        assert 0 <= left <= size[1] - window
        count[top : top + window, left : left + window] += 1
    assert (count >= 1).all()
    assert corners == sorted(set(corners))
    assert corners[0] == (0, 0)
    assert corners[-1] == (size[0] - window, size[1] - window)


def test_windows_of_the_paper() -> None:
    # By hand: VOC 512x384 padded to 473 rows has two columns of crops; Cityscapes 2 rows of 3.
    assert windows((473, 512), (473, 473), (316, 316)) == [(0, 0), (0, 39)]
    assert windows((512, 1024), (449, 449), (300, 300)) == [(0, 0), (0, 300), (0, 575), (63, 0), (63, 300), (63, 575)]
