from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from segbench.reports.figures import passes


def drawn(*lengths: int) -> list[tuple[list[str], bool]]:
    """Draw a network for each length of a curve, and return the tick labels of its panel and whether they show."""
    found: dict[str, Any] = {
        f"network {number}": {
            "apgd": [SimpleNamespace(curve=[(k, 60 - 40 * k / length) for k in range(1, length + 1)])]
        }
        for number, length in enumerate(lengths)
    }
    canvas = passes._draw(found)
    canvas.draw_without_rendering()
    panels = [ax for ax in canvas.axes if ax.get_visible()]
    assert len(panels) == len(lengths)
    labels = [[label for label in ax.get_xticklabels() if label.get_text()] for ax in panels]
    return [([own.get_text() for own in panel], all(own.get_visible() for own in panel)) for panel in labels]


@pytest.mark.parametrize("lengths", [(300,), (300, 20, 7, 40)])
def test_every_panel_shows_the_powers_of_ten(lengths: tuple[int, ...]) -> None:
    for labels, visible in drawn(*lengths):
        assert visible
        assert {"1", "10", "100"} <= set(labels)
        assert "2" not in labels


def test_short_curves_have_ticks_between_the_powers_of_ten() -> None:
    ((labels, visible),) = drawn(7)
    assert visible
    assert {"1", "2", "5"} <= set(labels)
