"""Defenses against patches: what they do to an image, in slow loops, and what they promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.defenses.demasked_smoothing import Demasked, DemaskedSmoothing, demasked, visible
from segbench.defenses.local_gradient_smoothing import local_gradient_smoothing, smoothed
from segbench.model_zoo.base import Segmenter


def rand(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def slow_smoothed(image: np.ndarray, block: int, overlap: int, threshold: float, factor: float) -> np.ndarray:
    """The paper's definition for one image (3, H, W), pixel by pixel."""
    grey = image.mean(0)
    height, width = grey.shape
    length = np.zeros((height, width))
    for r in range(height):
        for c in range(width):
            down = grey[r + 1, c] - grey[r, c] if r + 1 < height else 0.0
            across = grey[r, c + 1] - grey[r, c] if c + 1 < width else 0.0
            length[r, c] = np.sqrt(down**2 + across**2)
    length = (length - length.min()) / (length.max() - length.min())
    busy = np.zeros((height, width), bool)
    stride = block - overlap
    for r in range(0, max(height - overlap, 1), stride):
        for c in range(0, max(width - overlap, 1), stride):
            own = np.s_[r : r + block, c : c + block]
            if length[own].mean() > threshold:
                busy[own] = True
    return image * (1 - np.clip(factor * length * busy, 0, 1))


@pytest.mark.parametrize("size", [(40, 52), (15, 15), (9, 33), (25, 26)])
def test_smoothing_is_that_of_a_slow_loop(size: tuple[int, int]) -> None:
    images = 0.4 + 0.1 * rand(2, 3, *size, seed=1)
    images[:, :, 2:8, 2:8] = rand(2, 3, 6, 6, seed=2)
    made = smoothed(images.double(), 15, 5, 0.15, 2.3)
    for image, own in zip(images.double().numpy(), made, strict=True):
        np.testing.assert_allclose(own.numpy(), slow_smoothed(image, 15, 5, 0.15, 2.3), atol=1e-5)


def test_smoothing_darkens_a_patch_and_leaves_a_calm_image() -> None:
    images = torch.full((1, 3, 60, 60), 0.5) + torch.linspace(0, 0.1, 60)
    images[:, :, 20:40, 20:40] = rand(1, 3, 20, 20)
    made = smoothed(images, 15, 5, 0.1, 2.3)
    assert float(made[..., 22:38, 22:38].mean()) < 0.35
    torch.testing.assert_close(made[..., :10, :10], images[..., :10, :10])
    even = torch.full((1, 3, 60, 60), 0.3)
    torch.testing.assert_close(smoothed(even, 15, 5, 0.1, 2.3), even)


def test_the_gradient_of_smoothing_is_finite_and_that_of_its_definition() -> None:
    images = rand(1, 3, 16, 16).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smoothed(x, 5, 2, 0.3, 0.7), images, eps=1e-7, atol=1e-4)
    flat = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(smoothed(flat, 5, 2, 0.1, 2.3).sum(), flat)
    assert torch.isfinite(gradient).all()


def test_every_column_is_shown_by_one_copy_and_a_patch_touches_two() -> None:
    for width, copies, share in ((100, 5, 0.1), (33, 7, 0.05), (14, 5, 0.2)):
        shown = torch.stack([visible(width, copies, share, copy) for copy in range(copies)])
        assert (shown.sum(0) == 1).all()
        strip = max(1, round(share * width))
        for left in range(width - strip + 1):
            assert int(shown[:, left : left + strip].any(1).sum()) <= 2


def test_masked_columns_are_interpolated() -> None:
    images = rand(2, 3, 4, 12)
    columns = torch.zeros(12, dtype=torch.bool)
    columns[[2, 3, 8]] = True
    made = demasked(images, columns).numpy()
    for row in range(4):
        expected = np.interp(np.arange(12), [2, 3, 8], images[0, 1, row, [2, 3, 8]].numpy())
        np.testing.assert_allclose(made[0, 1, row], expected, atol=1e-6)
    assert (demasked(images, torch.zeros(12, dtype=torch.bool)) == 0.5).all()


def test_no_patch_in_a_strip_turns_a_label_on_which_all_agree() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 5, padding=2)).eval()
    network = Demasked(plain, copies=5, width=0.1)
    images = rand(1, 3, 20, 40)
    with torch.no_grad():
        votes = network(images)
        sure = votes.amax(1) >= 5
        assert 0.05 < sure.float().mean() < 1
        turned = 0
        for seed in range(60):
            left = seed % 37
            patched = images.clone()
            patched[..., left : left + 4] = 20 * rand(1, 3, 20, 4, seed=seed) - 10
            after = network(patched).argmax(1)
            turned += int((after != votes.argmax(1)).sum())
            assert (after == votes.argmax(1))[sure].all()
        assert turned > 0


def test_votes_have_the_gradient_of_probabilities() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 2, 1)
    network = Demasked(plain, copies=5, width=0.2)
    images = rand(1, 3, 6, 10).requires_grad_()
    (gradient,) = torch.autograd.grad(network(images)[:, 0].sum(), images)
    soft = sum(plain(demasked(images, visible(10, 5, 0.2, copy))).softmax(1) for copy in range(5))
    (expected,) = torch.autograd.grad(1.1 * soft[:, 0].sum(), images)
    torch.testing.assert_close(gradient, expected)
    assert not network.has_confidence


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (DemaskedSmoothing, {"copies": 4}),
        (DemaskedSmoothing, {"width": 0.3}),
        (local_gradient_smoothing, {"overlap": 15}),
        (local_gradient_smoothing, {"factor": -1.0}),
    ],
)
def test_what_makes_no_sense_is_refused(
    build: Callable[..., nn.Module], options: dict[str, float], segmenter: Segmenter
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        build(segmenter, **options)
