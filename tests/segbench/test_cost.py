from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from attacks.base import Passes
from segbench import cost
from segbench.plan import Plan
from segbench.store import Store


@pytest.mark.parametrize(
    ("attack", "forward", "backward"),
    [
        ("clean", 0, 0),
        ("fgsm", 1, 1),
        ("bim(steps=6)", 6, 6),
        ("pgd(steps=3)", 3, 3),
        ("pgd(steps=3, restarts=2)", 8, 6),
        # Three losses of ten steps; a first look at each of their three stages, and one at each part.
        ("sea(steps=10)", 3 * (10 + 3) + 3, 30),
    ],
)
def test_passes_of_attacks(attack: str, forward: int, backward: int) -> None:
    assert cost.attack_passes(attack) == Passes(forward, backward)


@pytest.mark.parametrize(
    ("defense", "forward", "backward"),
    [
        ("none", 1, 1),
        # Half of the batch is attacked by three steps: 1 + 1.5, rounded up.
        ("sat", 3, 3),
        # The whole batch is attacked; clean and attacked halves are predicted once more: 1 + 3 + 1, and 1 + 3.
        ("ddcat", 5, 4),
    ],
)
def test_passes_of_training_steps(defense: str, forward: int, backward: int) -> None:
    assert cost.training_passes(defense) == Passes(forward, backward)


def test_the_summary_adds_up(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    console.print(cost.summary(tiny_plan(transfer=None), Store(tmp_path / "none"), estimate=False))
    shown = console.export_text()
    # Two architectures: none takes 4 x 4 images once, SAT three times.
    assert f"{2 * 16 * (1 + 3)}" in shown
    # Four networks, five images: clean forward, three BIM steps, two scored iterates.
    assert f"{4 * 5 * (1 + 3 + 2)}" in shown
    assert "12 evaluations in 8 sweeps: sharing saves 25 % of the backward passes." in shown


def test_data_that_is_not_there_is_said(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    plan = tiny_plan(dataset="camvid")
    console.print(cost.summary(plan, Store(tmp_path / "none"), estimate=False))
    shown = console.export_text()
    assert "unknown" in shown
    assert "name its folder with --data" in shown
