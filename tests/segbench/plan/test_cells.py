from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest

from segbench.components import catalog, specs
from segbench.components.specs import Bound
from segbench.plan.data import Data
from segbench.plan.evaluations import EvalCell
from segbench.plan.identity import digest
from segbench.plan.networks import TrainCell
from segbench.plan.plan import Plan

RECIPE = {"optimizer": "sgd", "lr": 0.01, "iterations": 3}


def component(kind: str, name: str, *, version: int = 1, **options: object) -> Bound:
    """A component of the catalog with just these options, or one with another name or version in its place."""
    like = {"model": "pspnet", "defense": "none", "protocol": "whole-v1", "attack": "bim", "dataset": "digits"}[kind]
    return Bound(replace(catalog.find(kind, like), name=name, version=version), options)


def train_cell(**changes: object) -> TrainCell:
    content = {
        "data": Data(component("dataset", "digits", size=48), "f00d"),
        "model": component("model", "pspnet", encoder="tiny"),
        "defense": component("defense", "none"),
        "recipe": RECIPE,
        "seed": 0,
    }
    return TrainCell(**{**content, **changes})


def eval_cell(**changes: object) -> EvalCell:
    content = {
        "target": train_cell(),
        "source": train_cell(),
        "attack": component("attack", "bim", eps=0.03, steps=6),
        "protocol": component("protocol", "whole-v1"),
        "split": "val",
        "limit": None,
        "seed": 0,
    }
    return EvalCell(**{**content, **changes})


def test_golden_digests() -> None:
    # A change here orphans every stored result: raise TRAINING_VERSION or EVALUATION_VERSION and say so in CHANGELOG.
    assert train_cell().digest == "b0600a9be46ddb46"
    assert eval_cell().digest == "63ed99c4a1d17272"


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"recipe": {**RECIPE, "lr": 0.02}},
        {"model": component("model", "pspnet", encoder="resnet18")},
        {"defense": component("defense", "sat")},
        {"defense": component("defense", "none", version=2)},
        {"data": Data(component("dataset", "digits", size=48), "beef")},
        {"data": Data(component("dataset", "digits", size=32), "f00d")},
    ],
)
def test_everything_that_can_change_weights_changes_the_digest(changes: dict[str, object]) -> None:
    assert train_cell(**changes).digest != train_cell().digest
    assert eval_cell(target=train_cell(**changes)).digest != eval_cell().digest
    assert eval_cell(source=train_cell(**changes)).digest != eval_cell().digest


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": component("attack", "bim", eps=0.03, steps=5)},
        {"protocol": component("protocol", "whole-v2")},
        {"split": "dev"},
        {"limit": 3},
        {"seed": 1},
        {"adaptive": False},
        {"certified": True},
        {"dynamic": True},
    ],
)
def test_everything_that_can_change_scores_changes_the_digest(changes: dict[str, object]) -> None:
    assert eval_cell(**changes).digest != eval_cell().digest


def test_how_a_component_was_written_is_no_identity() -> None:
    short = specs.bound("attack", "bim(steps=6, eps=0.03)")
    mapping = specs.bound("attack", {"name": "bim", "steps": 6})
    assert short == mapping
    assert eval_cell(attack=short).digest == eval_cell(attack=mapping).digest


def test_the_attack_through_a_defense_is_the_ordinary_one() -> None:
    assert eval_cell(adaptive=True).digest == eval_cell(adaptive=None).digest


def test_cells_survive_another_process_and_a_file(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan()
    for cell in (*plan.trainings, *plan.evaluations):
        assert pickle.loads(pickle.dumps(cell)) == cell
        assert pickle.loads(pickle.dumps(cell)).digest == cell.digest
    for cell in plan.trainings:
        assert TrainCell.from_plain(json.loads(json.dumps(cell.to_plain()))).digest == cell.digest


def test_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"lr": float("nan")})


def test_how_cells_run_is_no_identity(tiny_plan: Callable[..., Plan]) -> None:
    plain = tiny_plan()
    runtime = {"workers": 2, "device": "cpu", "eval_batch": 5, "loader_workers": 1, "checkpoint_every": 1.0}
    other = tiny_plan(runtime=runtime)
    assert [c.digest for c in plain.evaluations] == [c.digest for c in other.evaluations]
    assert [c.digest for c in plain.trainings] == [c.digest for c in other.trainings]
