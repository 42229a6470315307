from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from segbench.plan import Plan


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
