from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from segbench import cli
from segbench.config.load import load_matrix, matrix_from_data
from segbench.execution import cost, execute, prepare
from segbench.plan.plan import Plan
from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.tables.layouts import layouts
from segbench.store import Store

PAPER = ("voc2012-paper", "cityscapes-paper", "voc2012-ablation")


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return {name: prepare.tentative_plan(load_matrix(name)) for name in PAPER}


def test_the_recipe_is_the_papers(plans: dict[str, Plan]) -> None:
    for name, plan in plans.items():
        for trained in plan.matrix.defenses:
            recipe = trained.recipe
            assert (recipe.optimizer, recipe.lr, recipe.head_lr_factor, recipe.momentum) == ("sgd", 0.01, 10, 0.9)
            assert (recipe.weight_decay, recipe.power, recipe.batch_size, recipe.aux_weight) == (1e-4, 0.9, 16, 0.4)
            changes = recipe.augmentation
            assert (changes.rotate, changes.rotate_probability, changes.blur, changes.flip) == (10, 0.5, 0.5, 0.5)
            cityscapes = name == "cityscapes-paper"
            assert recipe.epochs == (400 if cityscapes else 50)
            assert changes.crop == ((449, 449) if cityscapes else (473, 473))
            assert changes.scale == ((0.25, 1.0) if cityscapes else (0.5, 2.0))
            assert recipe.split == ("train" if cityscapes else "train_aug")


def test_lengths_are_known_without_the_data(plans: dict[str, Plan]) -> None:
    known = cost.lengths(plans["voc2012-paper"])
    assert set(known.iterations.values()) == {50 * (10_582 // 16)}
    assert set(known.images.values()) == {1449}
    known = cost.lengths(plans["cityscapes-paper"])
    assert set(known.iterations.values()) == {400 * (2975 // 16)}
    assert set(known.images.values()) == {500}


def test_robust_networks_are_trained_and_evaluated_as_their_paper_does() -> None:
    plan = prepare.tentative_plan(load_matrix("pir-at-voc"))
    assert set(cost.lengths(plan).iterations.values()) == {50 * (10_582 // 32)}
    for trained in plan.matrix.defenses:
        recipe, attack = trained.recipe, trained.defense.options["attack"]
        assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.power) == ("adamw", 1e-3, 1e-2, 1.0)
        assert recipe.warmup == 10 * (10_582 // 32)
        assert (attack.options["eps"], attack.options["alpha"], attack.options["steps"]) == (4 / 255, 0.01, 5)
    for name, size in (("pir-at-voc", 473), ("croce2024", 473), ("croce2024-ade20k", 512)):
        matrix = load_matrix(name)
        assert matrix.protocol.options["size"] == size
        radii = [bound.options["eps"] for bound in matrix.attacks if bound.component.name == "sea"]
        assert radii == [4 / 255, 8 / 255, 12 / 255]


def test_cells_and_sharing(plans: dict[str, Plan]) -> None:
    plan = plans["voc2012-paper"]
    assert len(plan.trainings) == 2 * 3 * 2
    # White-box: 11 attacks on each of 12 networks. Black-box: 10 attacks from 2 substitutes on each.
    assert len(plan.evaluations) == 12 * 11 + 12 * 2 * 10
    # Of BIM's seven numbers of steps, one trajectory; transfers share those of the substitutes.
    assert len(plan.sweeps) == 12 * 5
    sat = {c.digest for c in plan.trainings if c.defense.name in ("sat", "ddcat")}
    assert sat < {c.digest for c in plans["voc2012-ablation"].trainings}


def test_plan_needs_no_data(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["plan", "voc2012-paper", "--store", str(tmp_path)])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "372 evaluations in 60 sweeps: sharing saves" in text
    assert "unknown" not in text


@pytest.mark.slow
def test_one_network_under_three_protocols(
    real_data: Path, tmp_path: Path, run_plan: Callable[..., list[Record]]
) -> None:
    """A small network, trained on real images for a short while: the records differ in their protocol alone."""
    data: dict[str, Any] = {
        "datasets": ["voc2012"],
        "models": ["pspnet(encoder=tiny)"],
        "defenses": ["none"],
        "attacks": ["bim(steps=1)"],
        "limit": 4,
        "recipe": {
            "optimizer": "adamw",
            "lr": 0.005,
            "batch_size": 8,
            "iterations": 100,
            "augmentation": {"scale": [0.25, 0.5], "flip": 0.5, "crop": [97, 97]},
        },
        "runtime": {
            "store": str(tmp_path),
            "device": "cpu",
            "workers": 1,
            "data": {"voc2012": str(real_data / "voc2012-2007")},
        },
    }
    store = Store(tmp_path)
    records = []
    for protocol in ("whole-v1(size=[128, 160])", "ddcat-crop-v1(size=160, crop=97)", "sea-v2(size=128)"):
        matrix = matrix_from_data({**data, "protocol": protocol}, "three")
        plan = prepare.checked_plan(matrix, store)
        records += run_plan(plan, store, matrix.runtime, execute.SILENT)
    assert [record.status for record in records] == ["done"] * 3
    assert len({record.target.weights_sha256 for record in records}) == 1
    assert len(list((tmp_path / "train").iterdir())) == 1
    changing = {"digest", "protocol", "absent", "passes", "budget_used", "provenance", "flags"}
    changing |= {"scores", "metrics", "curve", "extras"}  # what was measured
    first, *others = (record.model_dump(mode="json", exclude=changing) for record in records)
    assert all(other == first for other in others)
    tables = layouts(records, Labels(records))
    assert len(tables) == 3
    for table in tables:
        cells = [cell for block in table.blocks for row in block.rows for cell in row.cells]
        assert [run.protocol.name for cell in cells for run in cell.records] == [cells[0].records[0].protocol.name]
    scores = pd.Series([record.scores.miou for record in records if record.scores])
    assert scores.between(0, 100).all()
    assert scores.nunique() == 3
