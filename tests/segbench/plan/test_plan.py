from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.components import specs
from segbench.config.matrix import Matrix
from segbench.config.network import Convention
from segbench.execution.prepare import tentative_plan
from segbench.networks import loaders
from segbench.plan.plan import Plan
from segbench.plan.traits import toy_segmenter


def test_cells_of_the_tiny_matrix(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(seeds=[0, 1])
    assert len(plan.trainings) == 2 * 2 * 2
    settings = Counter(cell.setting for cell in plan.evaluations)
    # Every network meets the substitutes of the one other architecture: 2 seeds x 2 attacks.
    assert settings == {"clean": 8, "white-box": 16, "black-box": 8 * 2 * 2}
    assert len({cell.digest for cell in plan.evaluations}) == len(plan.evaluations)


def test_substitutes_are_other_architectures_with_the_named_defense(tiny_plan: Callable[..., Plan]) -> None:
    for cell in tiny_plan(seeds=[0, 1]).evaluations:
        if cell.setting == "black-box":
            assert cell.source.defense.name == "sat"
            assert cell.source.model != cell.target.model


def test_sweeps_share_steps_and_targets(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan()
    assert sum(len(sweep.cells) for sweep in plan.sweeps) == len(plan.evaluations)
    # One clean and one BIM sweep for each of the four networks.
    assert len(plan.sweeps) == 8
    for sweep in plan.sweeps:
        assert {cell.source.digest for cell in sweep.cells} == {sweep.source.digest}
        if sweep.attack.name == "bim":
            assert sweep.attack.options["steps"] == 3
            assert {cell.attack.options["steps"] for cell in sweep.cells} == {1, 3}
        if sweep.attack.name == "bim" and sweep.source.defense.name == "sat":
            assert len(sweep.targets) == 3


def test_one_sweep_of_each_source_is_measured_with(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(attacks=["clean", "pgd(steps=2)", "bim(steps=1)", "bim(steps=3)", "fgsm"])
    watched = [sweep.watched for sweep in plan.sweeps if sweep.watched is not None]
    assert [cell.attack.name for cell in watched] == ["pgd"] * 4
    assert {cell.target.digest for cell in watched} == {cell.digest for cell in plan.trainings}
    nested = tiny_plan(attacks=["clean", "bim(steps=1)", "bim(steps=3)"])
    assert {s.watched.attack.options["steps"] for s in nested.sweeps if s.watched is not None} == {3}


def test_attacks_that_are_not_nested_do_not_share(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(attacks=["pgd(steps=1)", "pgd(steps=2)", "bim(alpha=0.01)", "bim(alpha=0.02)"], transfer=None)
    assert len(plan.sweeps) == len(plan.evaluations)


def test_the_manifest_lists_what_is_asked_for(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan()
    manifest = plan.manifest()
    assert [record.digest for record in manifest.records] == [cell.digest for cell in plan.evaluations]
    assert {record.status for record in manifest.records} == {"missing"}
    assert {record.absent for record in manifest.records} == {"skip"}
    bim = next(record for record in manifest.records if record.attack.name == "bim")
    assert (bim.threat.norm, bim.threat.eps, bim.threat.access) == ("linf", 0.03, "gradients")


def test_a_defense_at_inference_is_attacked_with_and_without_it(tiny_plan: Callable[..., Plan]) -> None:
    attacks = ["clean", "bim(steps=1)", "bim(steps=3)", "square(queries=2)", "corruption(kind=contrast, severity=1)"]
    plan = tiny_plan(defenses=["none", "jpeg"], attacks=attacks, transfer=None)
    made = {name: [c for c in plan.evaluations if c.target.defense.name == name] for name in ("none", "jpeg")}
    assert [cell.adaptive for cell in made["none"]] == [None] * 2 * len(attacks)
    own = made["jpeg"][: len(made["jpeg"]) // 2]  # of the first architecture
    assert [cell.adaptive for cell in own] == [None, True, True, True, None, False, False, False]
    assert [c.attack.short for c in own if c.oblivious] == ["bim(steps=1)", "bim(steps=3)", "square(queries=2)"]
    assert {record.adaptive for record in plan.manifest().records} == {None, True, False}
    for sweep in plan.sweeps:
        assert len({cell.oblivious for cell in sweep.cells}) == 1
    nested = [s for s in plan.sweeps if s.attack.name == "bim" and s.source.defense.name == "jpeg"]
    assert sorted((s.oblivious, len(s.cells)) for s in nested) == [(False, 2), (False, 2), (True, 2), (True, 2)]


def test_evaluations_of_a_dynamic_defense_stand_alone(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(defenses=["sat", "teacher-student"])
    for sweep in plan.sweeps:
        dynamic = [cell.dynamic for cell in sweep.cells]
        assert dynamic == [True] or not any(dynamic)
    assert {c.target.defense.name for c in plan.evaluations if c.dynamic} == {"teacher-student"}
    assert {c.dynamic for c in plan.evaluations if c.target.defense.name == "teacher-student"} == {True}
    for cell in plan.evaluations:
        through = cell.dynamic and cell.white and not cell.oblivious and cell.attack.name != "clean"
        assert cell.anticipating == through
    assert any(cell.anticipating for cell in plan.evaluations)


def test_certificates_are_scored_on_clean_images(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(defenses=["sat", "randomized-smoothing"])
    certified = [cell for cell in plan.evaluations if cell.certified]
    assert {(c.target.defense.name, c.attack.name) for c in certified} == {("randomized-smoothing", "clean")}
    assert len(certified) == 2


def test_a_given_network_with_a_defense_is_known_by_what_it_offers(
    tiny_matrix: Callable[..., Matrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    defense = specs.bound("defense", "jpeg").make(segmenter=toy_segmenter(), aux_weight=0.4, ignore_index=255)
    loaded = loaders.Loaded(defense.deploy().eval(), Convention(), {}, assured=True)
    monkeypatch.setattr(loaders, "load", lambda *arguments, **options: loaded)
    entry = {"load": "zoo:digits/toy/jpeg/0@1"}
    matrix = tiny_matrix(networks=[entry], models=None, defenses=None, recipe=None, transfer=None)
    assert [cell.adaptive for cell in tentative_plan(matrix).evaluations] == [None, True, True, False, False]
    entry["convention"] = {"mean": [0.5, 0.5, 0.5]}  # then it is an adapter that is attacked, defense and all
    matrix = tiny_matrix(networks=[entry], models=None, defenses=None, recipe=None, transfer=None)
    assert [cell.adaptive for cell in tentative_plan(matrix).evaluations] == [None, None, None]


def test_a_target_map_counts_by_its_content(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    def evaluation(content: int, file: str) -> tuple[str, str]:
        path = tmp_path / file
        Image.fromarray(np.full((4, 4), content, dtype=np.uint8)).save(path)
        plan = tiny_plan(attacks=[{"name": "bim", "target": str(path)}], transfer=None)
        sweep = plan.sweeps[0]
        return sweep.cells[0].digest, sweep.key

    first = evaluation(1, "labels.png")
    assert evaluation(1, "elsewhere.png") == first
    changed = evaluation(2, "labels.png")
    assert changed[0] != first[0]
    assert changed[1] != first[1]


def test_files_of_weights_and_of_training_attacks_count_by_their_content(
    tiny_matrix: Callable[..., Matrix], tmp_path: Path
) -> None:
    def training(weights: bytes, label: int, folder: str) -> str:
        here = tmp_path / folder
        here.mkdir()
        (here / "robust.pth").write_bytes(weights)
        Image.fromarray(np.full((4, 4), label, dtype=np.uint8)).save(here / "labels.png")
        attack = {"name": "bim", "target": str(here / "labels.png")}
        defense = {"name": "pir-at", "backbone": str(here / "robust.pth"), "attack": attack}
        matrix = tiny_matrix(defenses=[defense], transfer=None)
        return tentative_plan(matrix).trainings[0].digest

    first = training(b"robust", 1, "a")
    assert training(b"robust", 1, "b") == first
    assert training(b"other", 1, "c") != first
    assert training(b"robust", 2, "d") != first


def test_one_state_of_a_file_of_several_counts_by_content_and_name(
    tiny_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pth"

    def digest(key: str) -> str:
        model = {"name": "pspnet", "encoder": "tiny", "weights": f"{weights}::{key}"}
        return tiny_plan(models=[model], transfer=None).trainings[0].digest

    weights.write_bytes(b"one")
    one, other = digest("ema"), digest("model")
    weights.write_bytes(b"two")
    assert len({one, other, digest("ema")}) == 3
