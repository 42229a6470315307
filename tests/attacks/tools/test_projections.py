from __future__ import annotations

import pytest
import torch

from segbench.attacks.base import Norm
from segbench.attacks.tools.budget import distance
from segbench.attacks.tools.projections import l2_radius, project, shrink, step


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.03), ("linf", 8 / 255), ("l2", 20.0), ("l2", 0.5), ("rms", 0.03)])
def test_projection_keeps_ball_and_box_in_double(norm: Norm, eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 97, 113, generator=generator)
    far = images + torch.randn(images.shape, generator=generator)
    made = project(far, images, norm, eps)
    assert (distance(made, images, norm) <= eps + 1e-6).all()
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(project(made, images, norm, eps * 1.001), made) or norm != "linf"


@pytest.mark.parametrize("norm", ["linf", "l2", "rms"])
def test_what_lies_inside_stays(norm: Norm) -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    near = images + 0.01
    torch.testing.assert_close(project(near, images, norm, 1.0), near)


def test_l2_projection_is_the_nearest_point_of_the_ball() -> None:
    change = torch.tensor([3.0, 4.0, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(shrink(change, "l2", 1.0).flatten(), torch.tensor([0.6, 0.8, 0.0]))
    assert shrink(torch.zeros_like(change), "l2", 1.0).abs().sum() == 0


@pytest.mark.parametrize("norm", ["l2", "rms"])
def test_a_step_has_its_length_for_tiny_and_huge_gradients(norm: Norm) -> None:
    gradient = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    for scale in (1e-38, 1.0, 1e30):
        change = step(gradient * scale, norm, 0.01)
        torch.testing.assert_close(change.norm(), torch.tensor(l2_radius(gradient, norm, 0.01)), rtol=1e-4, atol=0)
    assert step(torch.zeros_like(gradient), norm, 0.01).abs().sum() == 0


def test_rms_is_the_l2_norm_per_value() -> None:
    images = torch.zeros(1, 3, 8, 8)
    assert distance(images + 0.03, images, "rms").item() == pytest.approx(0.03)
    assert distance(images + 0.03, images, "l2").item() == pytest.approx(0.03 * (3 * 64) ** 0.5)
