from __future__ import annotations

import math

import pytest
import torch

from segbench.attacks.tools.patches import Motion, Poses, drawn, footprint, paste, side


def poses(row: float, column: float, length: float, degrees: float = 0.0, light: float = 1.0) -> Poses:
    values = (row, column, length, math.radians(degrees), light)
    return Poses(*(torch.tensor([value], dtype=torch.float64) for value in values))


def test_an_upright_patch_is_copied_to_the_pixel() -> None:
    images = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    colours = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    made = paste(images, colours, poses(5, 3, 4))
    expected = images.clone()
    expected[:, :, 3:7, 1:5] = colours
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)
    outside = ~footprint(poses(5, 3, 4), images)[0]
    assert torch.equal(made[..., outside], images[..., outside])


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_quarter_turn_is_a_quarter_turn(degrees: int) -> None:
    images = torch.zeros(1, 3, 8, 8)
    colours = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    made = paste(images, colours, poses(4, 4, 4, degrees))[..., 2:6, 2:6]
    turned = torch.rot90(colours, -degrees // 90, (2, 3))
    torch.testing.assert_close(made, turned, rtol=0, atol=1e-5)


def test_a_footprint_has_the_area_of_the_square_at_any_angle_and_scale() -> None:
    images = torch.zeros(1, 3, 200, 200)
    for degrees, length in ((0, 60), (30, 60), (45, 80), (77, 41)):
        pixels = int(footprint(poses(101.3, 97.8, length, degrees), images).sum())
        assert pixels == pytest.approx(length**2, rel=0.03)


def test_brightness_scales_colours_and_stays_in_the_box() -> None:
    images, colours = torch.zeros(1, 3, 6, 6), torch.full((1, 3, 2, 2), 0.7)
    assert paste(images, colours, poses(3, 3, 2, light=0.5))[0, 0, 3, 3] == pytest.approx(0.35)
    assert paste(images, colours, poses(3, 3, 2, light=1.5))[0, 0, 3, 3] == 1


def test_drawn_poses_are_uniform_and_leave_no_patch_outside() -> None:
    ways = Motion(0.04, None, 0.0, 0.2, 30.0, 0.1)
    many = drawn(ways, torch.zeros(1, 3, 50, 100), [torch.Generator().manual_seed(i) for i in range(2000)])
    length = side(0.04, 50, 100)
    assert length == 14
    assert many.rows.min() >= length / 2
    assert many.rows.max() <= 50 - length / 2
    assert float(many.rows.mean()) == pytest.approx(25, abs=0.8)
    assert float(many.columns.std()) == pytest.approx(86 / math.sqrt(12), rel=0.05)
    assert float(many.sides.min()) >= 0.8 * length - 1e-9
    assert float(many.sides.max()) <= 1.2 * length + 1e-9
    assert float(many.angles.abs().max()) <= math.radians(30) + 1e-9
    assert float(many.lights.mean()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0.0}, "size is a share"),
        ({"size": 5.0}, "size is a share"),
        ({"scale": 1.0}, "scale is a share"),
        ({"place": (0.5, 3.0)}, "place is two shares"),
        ({"rotation": 270.0}, "rotation is 0 to 180"),
    ],
)
def test_what_no_patch_can_be_is_refused(wrong: dict[str, object], message: str) -> None:
    sound = {"size": 0.1, "place": (0.5, 0.5), "shift": 0.0, "scale": 0.0, "rotation": 0.0, "brightness": 0.0}
    with pytest.raises(ValueError, match=message):
        Motion(**{**sound, **wrong})  # type: ignore[arg-type]
