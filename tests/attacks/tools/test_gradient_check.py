from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.tools.gradient_check import check_gradient

VOID = 255


class Linear(nn.Module):
    """Logits that are linear in each pixel, which may be seen through a function."""

    def __init__(self, before: nn.Module | None = None) -> None:
        super().__init__()
        self.before = before or nn.Identity()
        weight = torch.tensor([[4.0, -2.0, 1.0], [-3.0, 5.0, 0.5]])
        self.register_buffer("weight", weight)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("cd,ndhw->nchw", self.weight, self.before(images))


class Rounding(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images * 32).round() / 32


class Straight(nn.Module):
    """Rounds, and passes the gradient through as if it did not."""

    def forward(self, images: Tensor) -> Tensor:
        return images + ((images * 32).round() / 32 - images).detach()


class Backwards(nn.Module):
    """The identity with a gradient of -1."""

    def forward(self, images: Tensor) -> Tensor:
        return 2 * images.detach() - images


class Unlike(nn.Module):
    """The identity with the gradient of a mean over 3x3 pixels: a small step along its sign rises as it predicts."""

    def forward(self, images: Tensor) -> Tensor:
        smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1)
        return images.detach() + smooth - smooth.detach()


class Choosing(nn.Module):
    """Darkens half of all images, by a value that any change of the image changes."""

    def forward(self, images: Tensor) -> Tensor:
        dark = (images.double().flatten(1).sum(1) * 1e6).long() % 2 == 0
        return images - 0.2 * dark.view(-1, 1, 1, 1)


class Waves(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images + 0.004 * (2000 * images).sin()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 16, 16, generator=generator) * 0.8 + 0.1
    images = (images * 255).round() / 255
    masks = Linear()(images).argmax(1)
    masks[:, 0] = VOID
    return images, masks


def test_the_rise_of_a_linear_network_is_the_predicted_one(batch: tuple[Tensor, Tensor]) -> None:
    found = check_gradient(Linear(), *batch)
    assert found.trusted.all()
    torch.testing.assert_close(found.rise, torch.ones(3).double(), rtol=0, atol=0.02)
    torch.testing.assert_close(found.jump, torch.full((3,), 1 / 20).double(), rtol=0, atol=1e-3)
    assert (found.mismatch < 0.05).all()
    assert (torch.maximum(found.forward, found.backward) == 0).all()


def test_the_gradient_of_the_identity_is_trusted_for_rounding_and_that_of_rounding_is_not(
    batch: tuple[Tensor, Tensor],
) -> None:
    assert check_gradient(Linear(Straight()), *batch).trusted.all()
    found = check_gradient(Linear(Rounding()), *batch)
    assert (found.zero == 1).all()
    assert not found.trusted.any()


def test_a_gradient_of_the_wrong_sign_predicts_the_opposite(batch: tuple[Tensor, Tensor]) -> None:
    found = check_gradient(Linear(Backwards()), *batch)
    torch.testing.assert_close(found.rise, -torch.ones(3).double(), rtol=0, atol=0.02)
    assert not found.trusted.any()


def test_a_gradient_that_is_true_only_at_a_point_is_not_trusted(batch: tuple[Tensor, Tensor]) -> None:
    """The slope of the waves is 1 + 8 cos(2000 x), and their rise over a step of 1/255 is that of the identity."""
    found = check_gradient(Linear(Waves()), *batch)
    assert (found.rise < 0.3).all()
    assert not found.trusted.any()


def test_a_smoothed_gradient_does_not_explain_what_noise_does(batch: tuple[Tensor, Tensor]) -> None:
    found = check_gradient(Linear(Unlike()), *batch)
    assert (found.mismatch > 0.4).all()
    assert not found.trusted.any()


def test_a_network_that_chooses_by_the_image_goes_unequally_far_to_both_sides(batch: tuple[Tensor, Tensor]) -> None:
    found = check_gradient(Linear(Choosing()), *batch)
    assert (found.uneven > 20).any()
    assert not found.trusted.any()
    torch.testing.assert_close(check_gradient(Linear(), *batch).uneven, torch.ones(3).double(), rtol=0, atol=0.2)


def test_logits_that_are_cut_at_one_value_are_saturated_and_a_map_of_one_class_is_not(
    batch: tuple[Tensor, Tensor],
) -> None:
    images, masks = batch
    cut = nn.Sequential(Linear(), nn.Hardtanh(-100, 0.1))
    assert (check_gradient(cut, images, cut(images).argmax(1)).saturated > 0.15).all()
    constant = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        constant.weight.mul_(1e-4)
        constant.bias.copy_(torch.tensor([1.0, 0.0]))
    found = check_gradient(constant, images, torch.zeros_like(masks))
    assert (found.saturated == 0).all()


def test_a_class_that_the_network_does_not_know_hides_no_noise(batch: tuple[Tensor, Tensor]) -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = Linear()(images + 0.01 * torch.randn_like(images))
            return torch.cat([logits, torch.full_like(logits[:, :1], -1e4)], 1)

    assert (check_gradient(Noisy(), *batch).forward > 1e-3).all()


def test_an_image_is_judged_by_itself(batch: tuple[Tensor, Tensor]) -> None:
    images, masks = batch
    together, alone = check_gradient(Linear(), images, masks), check_gradient(Linear(), images[1:2], masks[1:2])
    for name, values in vars(together).items():
        torch.testing.assert_close(values[1:2], vars(alone)[name], rtol=1e-4, atol=1e-4)


def test_an_image_without_a_valid_pixel_is_not_trusted(batch: tuple[Tensor, Tensor]) -> None:
    images, masks = batch
    masks[0] = VOID
    assert check_gradient(Linear(), images, masks).trusted.tolist() == [False, True, True]


def test_the_network_is_left_as_found(batch: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(Linear(), nn.BatchNorm2d(2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    check_gradient(model, *batch)
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
