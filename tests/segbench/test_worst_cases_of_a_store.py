from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segbench.plan.plan import Plan
from segbench.reports import worst_case
from segbench.reports.records import Manifest, Record
from segbench.reports.statistics import scores
from segbench.store import Store

NAMES = ["a", "b", "c"]


def counts(seed: int) -> np.ndarray:
    """Counts of three images of 20 pixels in two classes, of which some are right."""
    rng = np.random.default_rng(seed)
    truth = np.array([12, 8])
    right = rng.integers(0, truth + 1, (3, 2))
    wrong = truth - right
    return np.stack([right, right + wrong[:, ::-1], np.tile(truth, (3, 1))], 1)


@pytest.fixture
def filled(tiny_plan: Callable[..., Plan], tmp_path: Path) -> tuple[Manifest, Store]:
    """A store in which one network was attacked three times, and what its matrix asks for."""
    worst_of = {"worst": ["bim(steps=1)", "pgd"], "both bim": ["bim"]}
    plan = tiny_plan(
        models=["pspnet(encoder=tiny)"],
        defenses=["none"],
        transfer=None,
        attacks=["clean", "bim(steps=1)", "bim(steps=3)", "pgd(steps=2)"],
        worst_of=worst_of,
    )
    store = Store(tmp_path / "filled")
    for seed, cell in enumerate(plan.evaluations):
        found = scores(counts(seed), "skip")
        done = {"status": "done", "n_images": 3, "classes": ("x", "y"), "scores": found, "budget_used": 0.01}
        store.write_record(cell.expected().model_copy(update=done), counts(seed), NAMES)
    store.write_manifest(plan.manifest())
    manifest = store.manifest("tiny")
    assert manifest is not None
    return manifest, store


def by_name(manifest: Manifest) -> dict[str, Record]:
    return {record.attack.short: record for record in manifest.records}


def test_the_worst_case_is_that_of_the_stored_counts(filled: tuple[Manifest, Store]) -> None:
    manifest, store = filled
    found = by_name(worst_case.with_worst_cases(manifest, store.evidence()))
    assert set(found) == {"clean", "bim(steps=1)", "bim(steps=3)", "pgd(steps=2)", "worst", "both bim"}
    expected = worst_case.worst_case([counts(1), counts(3)], "skip")
    worst = found["worst"]
    assert worst.scores is not None
    assert worst.scores.miou == pytest.approx(expected.miou)
    assert worst.extras["miou_lower_bound"] == pytest.approx(expected.miou_bound)
    assert worst.attack.options["of"] == ["bim(steps=1)", "pgd"]
    assert found["both bim"].attack.options["of"] == ["bim"]
    for name, members in (("worst", ("bim(steps=1)", "pgd(steps=2)")), ("both bim", ("bim(steps=1)", "bim(steps=3)"))):
        scores = [found[member].scores for member in members]
        aggregated = found[name].scores
        assert aggregated is not None
        assert aggregated.miou <= min(s.miou for s in scores if s is not None) + 1e-9
        assert found[name].extras["miou_lower_bound"] <= aggregated.miou + 1e-9


def test_parts_of_an_ensemble_count_as_attacks(filled: tuple[Manifest, Store]) -> None:
    manifest, store = filled
    record = by_name(manifest)["pgd(steps=2)"]
    store.write_record(record, counts(3), NAMES, {"one": counts(7), "two": counts(8)})
    worst = by_name(worst_case.with_worst_cases(manifest, store.evidence()))["worst"]
    assert worst.scores is not None
    assert worst.scores.miou == pytest.approx(worst_case.worst_case([counts(1), counts(7), counts(8)], "skip").miou)


def test_a_missing_member_leaves_the_worst_case_missing(filled: tuple[Manifest, Store]) -> None:
    manifest, store = filled
    records = [
        r.model_copy(update={"status": "failed", "scores": None}) if r.attack.name == "pgd" else r
        for r in manifest.records
    ]
    found = by_name(
        worst_case.with_worst_cases(manifest.model_copy(update={"records": tuple(records)}), store.evidence())
    )
    assert (found["worst"].status, found["worst"].error) == ("missing", "pgd(steps=2) is failed")
    assert found["both bim"].status == "done"


def test_no_worst_case_where_a_member_was_not_asked_for(filled: tuple[Manifest, Store]) -> None:
    manifest, store = filled
    records = tuple(record for record in manifest.records if record.attack.name != "pgd")
    found = by_name(worst_case.with_worst_cases(manifest.model_copy(update={"records": records}), store.evidence()))
    assert "worst" not in found
    assert "both bim" in found
    plain = manifest.model_copy(update={"worst_of": {}})
    assert worst_case.with_worst_cases(plain, store.evidence()) == plain


def test_oblivious_attacks_have_a_worst_case_of_their_own(filled: tuple[Manifest, Store]) -> None:
    manifest, store = filled
    records = []
    for record in manifest.records:
        adaptive = record.attack.name == "pgd" if record.attack.name in ("pgd", "bim") else None
        records.append(record.model_copy(update={"adaptive": adaptive}))
    sets = {"pgd alone": ("pgd",), "both bim": ("bim",), "mixed": ("bim", "pgd")}
    filled_in = manifest.model_copy(update={"records": tuple(records), "worst_of": sets})
    aggregated = worst_case.with_worst_cases(filled_in, store.evidence())
    worst = {(r.attack.short, r.adaptive) for r in aggregated.records[len(records) :]}
    assert worst == {("pgd alone", True), ("both bim", False)}


def test_clean_images_are_no_member_of_a_worst_case(filled: tuple[Manifest, Store]) -> None:
    manifest, store = filled
    sets = {"with clean": ("clean", "pgd"), "clean alone": ("clean",), "pgd alone": ("pgd",)}
    asked = manifest.model_copy(update={"worst_of": sets})
    added = worst_case.with_worst_cases(asked, store.evidence()).records[len(manifest.records) :]
    assert [(record.attack.short, record.setting) for record in added] == [("pgd alone", "white-box")]


def test_the_worst_case_may_take_images_that_were_made_on_other_networks(
    tiny_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = tiny_plan(
        models=["pspnet(encoder=tiny)", "deeplabv3(encoder=tiny)"],
        defenses=["none", "sat"],
        attacks=["clean", "pgd(steps=2)"],
        transfer={"substitutes": "none", "attacks": ["bim(steps=1)"]},
        worst_of={"alone": ["pgd"], "any": ["pgd", "transfer"]},
    )
    store = Store(tmp_path / "filled")
    stored = {}
    for seed, cell in enumerate(plan.evaluations):
        found = scores(counts(seed), "skip")
        done = {"status": "done", "n_images": 3, "classes": ("x", "y"), "scores": found, "budget_used": 0.01}
        done["curve"] = ((1, 60.0), (2, 50.0))
        record = cell.expected().model_copy(update=done)
        store.write_record(record, counts(seed), NAMES)
        stored.setdefault((record.target.digest, record.setting), []).append(counts(seed))
    store.write_manifest(plan.manifest())
    manifest = store.manifest("tiny")
    assert manifest is not None
    assert any(setting == "black-box" for _, setting in stored)
    aggregated = [r for r in worst_case.with_worst_cases(manifest, store.evidence()).records if r.attack.short == "any"]
    assert {record.target.digest for record in aggregated} == {key[0] for key in stored if key[1] == "black-box"}
    for record in aggregated:
        own, others = (stored[record.target.digest, setting] for setting in ("white-box", "black-box"))
        assert record.setting == "white-box"
        assert record.curve == (), "that of one attack says nothing of the choice"
        assert record.scores is not None
        assert record.scores.miou == pytest.approx(worst_case.worst_case([*own, *others], "skip").miou)
