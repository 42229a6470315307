from __future__ import annotations

from collections.abc import Callable

import pytest

from segbench.plan.cells import Data, EvalCell, TrainCell
from segbench.plan.identity import digest
from segbench.plan.plan import Plan
from segbench.reports.records import Component

RECIPE = {"optimizer": "sgd", "lr": 0.01, "iterations": 3}


def component(name: str, **options: object) -> Component:
    return Component(name=name, version=1, options=options, short=name)


def train_cell(**changes: object) -> TrainCell:
    content = {
        "data": Data(component=component("digits", size=48), fingerprint="f00d"),
        "model": component("pspnet", encoder="tiny"),
        "defense": component("none"),
        "recipe": RECIPE,
        "seed": 0,
    }
    return TrainCell(**{**content, **changes})


def eval_cell(**changes: object) -> EvalCell:
    content = {
        "target": train_cell(),
        "source": train_cell(),
        "attack": component("bim", eps=0.03, steps=6),
        "protocol": component("whole-v1"),
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
        {"model": component("pspnet", encoder="resnet18")},
        {"defense": component("sat")},
        {"defense": Component(name="none", version=2, short="none")},
        {"data": Data(component=component("digits", size=48), fingerprint="beef")},
        {"data": Data(component=component("digits", size=32), fingerprint="f00d")},
    ],
)
def test_everything_that_can_change_weights_changes_the_digest(changes: dict[str, object]) -> None:
    assert train_cell(**changes).digest != train_cell().digest
    assert eval_cell(target=train_cell(**changes)).digest != eval_cell().digest
    assert eval_cell(source=train_cell(**changes)).digest != eval_cell().digest


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": component("bim", eps=0.03, steps=5)},
        {"protocol": component("whole-v2")},
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
    other = component("pspnet", encoder="tiny").model_copy(update={"short": "pspnet(encoder=tiny)"})
    assert train_cell(model=other).digest == train_cell().digest


def test_the_attack_through_a_defense_is_the_ordinary_one() -> None:
    assert eval_cell(adaptive=True).digest == eval_cell(adaptive=None).digest


def test_the_digest_survives_a_round_trip() -> None:
    cell = eval_cell()
    assert EvalCell.model_validate_json(cell.model_dump_json()).digest == cell.digest


def test_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"lr": float("nan")})


def test_how_cells_run_is_no_identity(tiny_plan: Callable[..., Plan]) -> None:
    plain = tiny_plan()
    runtime = {"workers": 2, "device": "cpu", "eval_batch": 5, "loader_workers": 1, "checkpoint_every": 1.0}
    other = tiny_plan(runtime=runtime)
    assert [c.digest for c in plain.evaluations] == [c.digest for c in other.evaluations]
    assert [c.digest for c in plain.trainings] == [c.digest for c in other.trainings]
